"""What a watch is told once, from arguments and the environment."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from watchstep.errors import SettingsError
from watchstep.rules import PACKS_TAG, packs_named
from watchstep.wire import METRIC_NAME, RUN_NAME

Mode = Literal["online", "offline", "disabled"]
OnCritical = Literal["alert", "halt", "rollback"]
DEFAULT_RULES = ("ppo", "generic")
_LEAST = {"keep": 1, "good_after": 1, "max_rollbacks": 0, "exit_s": 0, "rollback_lr_factor": 0}


@dataclass(frozen=True, slots=True)
class Options:
    """Everything about one watch.

    Attributes:
        rules: Packs and rule files, see `watchstep.rules.load`.
        checkpoints: Folder of the checkpoint keeper; None for no keeper.
        on_critical: What a rule's demand to halt leads to: "alert" only tells, "halt" raises
            `TrainingHalted`, "rollback" restores the pin and goes on.
        keep: Checkpoints that retention leaves, besides the pin.
        good_after: Healthy updates after a save before it may become the pin.
        async_checkpoints: Whether saves are written in the background.
        max_rollbacks: Rollbacks of one watch before the next one halts instead.
        rollback_lr_factor: What learning rates are multiplied with after a rollback.
        strict: Read device tensors at once, at the price of a synchronisation each update.
        capture_text: Whether `warnings` and `logging` lines from WARNING up become events.
        obey_commands: Whether halt commands from the service are obeyed.
        exit_s: What the run's end may take, for a save in the background and the service
            together. With the default a process is gone within 2 s.
        report: Whether this process reports, and writes checkpoints that others hold alike.
            None: rank 0 of a distributed job does (torch.distributed, or RANK, SLURM_PROCID,
            OMPI_COMM_WORLD_RANK, PMI_RANK). True for processes that are runs of their own.
        catch_sigterm: Whether a SIGTERM is reported at the next `log` before the process dies
            of it. Installs a handler, in the main thread only.
    """

    run: str
    project: str = "default"
    rules: tuple[str, ...] = DEFAULT_RULES
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    directory: Path = Path(".watchstep")
    mode: Mode = "online"
    checkpoints: Path | None = None
    on_critical: OnCritical = "alert"
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    trainer: str = ""
    keep: int = 3
    good_after: int = 1
    async_checkpoints: bool = False
    max_rollbacks: int = 3
    rollback_lr_factor: float = 1.0
    strict: bool = False
    capture_text: bool = True
    obey_commands: bool = True
    exit_s: float = 1.5
    report: bool | None = None
    catch_sigterm: bool = False


def from_environment(given: Mapping[str, Any]) -> Options:
    """Arguments over environment over defaults; None counts as not given.

    The environment: WATCHSTEP_URL, WATCHSTEP_TOKEN or WATCHSTEP_TOKEN_FILE, WATCHSTEP_PROJECT,
    WATCHSTEP_RUN, WATCHSTEP_DIR and WATCHSTEP_MODE.

    Raises:
        SettingsError: A name or value that cannot be.
    """
    environment = {
        "url": os.environ.get("WATCHSTEP_URL"),
        "token": _token(),
        "project": os.environ.get("WATCHSTEP_PROJECT"),
        "run": os.environ.get("WATCHSTEP_RUN"),
        "directory": os.environ.get("WATCHSTEP_DIR"),
    }
    told: dict[str, Any] = {key: value for key, value in environment.items() if value}
    told.update({key: value for key, value in given.items() if value is not None})
    told.setdefault("run", _invented_name())
    # The environment variable is the kill switch, so no argument overrules it.
    told["mode"] = os.environ.get("WATCHSTEP_MODE") or told.get("mode", "online")
    if "rules" in told:
        told["rules"] = _rules(told["rules"])
        told["tags"] = _telling_packs(told["rules"], told.get("tags", {}))
    for key in ("directory", "checkpoints"):
        if key in told:
            told[key] = Path(told[key])
    _refuse_unknown(told)
    options = Options(**told)
    _check(options)
    return options


def _refuse_unknown(told: Mapping[str, Any]) -> None:
    known = [one.name for one in fields(Options)]
    for name in told:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise SettingsError(f"there is no argument {name!r}{hint}")


def _token() -> str | None:
    """The token itself, or the content of the file that is named, as secrets are mounted."""
    path = os.environ.get("WATCHSTEP_TOKEN_FILE")
    if not path or os.environ.get("WATCHSTEP_TOKEN"):
        return os.environ.get("WATCHSTEP_TOKEN")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"WATCHSTEP_TOKEN_FILE cannot be read: {error.strerror}") from None


def _invented_name() -> str:
    return f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"


def _rules(told: Any) -> tuple[str, ...]:
    sources = (told,) if isinstance(told, (str, Path)) else tuple(told)
    # A pack for one kind of trainer is of little use without the rules for any trainer.
    names = [str(source) for source in sources]
    return tuple(names if "generic" in names or not names else [*names, "generic"])


def _telling_packs(rules: tuple[str, ...], tags: Mapping[str, str]) -> Mapping[str, str]:
    """The tags, with the packs that were chosen: the service judges by the same ones."""
    chosen = ",".join(packs_named(",".join(rules)))
    return {PACKS_TAG: chosen, **tags} if chosen else tags


def _check(options: Options) -> None:
    if not re.fullmatch(RUN_NAME, options.run):
        raise SettingsError(
            f"run must match {RUN_NAME.pattern}, and {options.run[:140]!r} does not"
        )
    for key, value, choices in (
        ("mode (or WATCHSTEP_MODE)", options.mode, get_args(Mode)),
        ("on_critical", options.on_critical, get_args(OnCritical)),
    ):
        if value not in choices:
            raise SettingsError(f"{key} must be one of {', '.join(choices)}, not {value!r}")
    for key, least in _LEAST.items():
        given = getattr(options, key)
        if isinstance(given, bool) or not isinstance(given, int | float) or not given >= least:
            raise SettingsError(f"{key} must be a number of at least {least}, not {given!r}")
    if not options.rollback_lr_factor > 0:
        raise SettingsError(f"rollback_lr_factor must be above 0, not {options.rollback_lr_factor}")
    if options.url is not None and not options.url.startswith(("http://", "https://")):
        raise SettingsError("url must begin with http:// or https://")
    if options.on_critical == "rollback" and options.checkpoints is None:
        raise SettingsError("on_critical='rollback' needs checkpoints='some/folder'")


def is_metric_name(name: object) -> bool:
    """Whether a name is one that readings may have."""
    return isinstance(name, str) and METRIC_NAME.fullmatch(name) is not None
