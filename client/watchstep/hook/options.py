"""What a watch is told once, from arguments and the environment."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from watchstep.boundary import text_of
from watchstep.core.roles import Role
from watchstep.errors import SettingsError
from watchstep.hook.plain_values import CONFIG_BYTES, plain_mapping, plain_tags
from watchstep.rules import AUTO, PACKS_TAG, judging, packs_named
from watchstep.wire.names import legal_project_name, legal_run_name

Mode = Literal["online", "offline", "disabled"]
OnCritical = Literal["alert", "halt", "rollback"]
DEFAULT_RULES = (AUTO,)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything about one watch; see `watchstep.init`, whose arguments these are.

    Attributes:
        report: Rank 0 of a distributed job does by torch.distributed, or RANK, SLURM_PROCID,
            OMPI_COMM_WORLD_RANK or PMI_RANK. True for processes that are runs of their own.
        exit_s: For a save in the background and the service together. With the default a
            process is gone within 2 s.
        outside: File in which `watchstep run`, where it is around this process, learns which
            session speaks for the run.
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
    catch_sigterm: bool = True
    first_update_s: float = 600.0
    terminal: bool = True
    roles: Mapping[str, str] = field(default_factory=dict)
    outside: Path | None = None
    system: bool = False


def from_environment(arguments: Mapping[str, Any]) -> tuple[Options, list[str]]:
    """Arguments over environment over defaults, and a sentence for each that cannot be used.

    None counts as not given. An argument that cannot be used costs that argument: it is mended
    where its meaning is plain, else it has its default.

    The environment: WATCHSTEP_URL, WATCHSTEP_TOKEN or WATCHSTEP_TOKEN_FILE, WATCHSTEP_PROJECT,
    WATCHSTEP_RUN, WATCHSTEP_DIR and WATCHSTEP_MODE.
    """
    complaints: list[str] = []
    token, complaint = _token()
    environment = {
        "url": os.environ.get("WATCHSTEP_URL"),
        "token": token,
        "project": os.environ.get("WATCHSTEP_PROJECT"),
        "run": os.environ.get("WATCHSTEP_RUN"),
        "directory": os.environ.get("WATCHSTEP_DIR"),
        "mode": os.environ.get("WATCHSTEP_MODE"),
        "outside": os.environ.get("WATCHSTEP_OUTSIDE"),
    }
    complaints += [complaint] if complaint else []
    values: dict[str, Any] = {key: value for key, value in environment.items() if value}
    values.update({key: value for key, value in arguments.items() if value is not None})
    # The environment variable is the kill switch, so no argument overrules it.
    values["mode"] = environment["mode"] or values.get("mode", "online")
    values.setdefault("run", _invented_name())
    usable: dict[str, Any] = {}
    for key, value in values.items():
        mend = _MENDERS.get(key)
        if mend is None:
            complaints.append(_unknown(key))
            continue
        try:
            mended = mend(value)
        except Exception as error:
            complaints.append(f"{key}: {text_of(error.__str__)}")
            continue
        usable[key], changes = mended if isinstance(mended, _Mended) else (mended, ())
        complaints += [f"{key}: {text}" for text in changes]
    if usable.get("on_critical") == "rollback" and "checkpoints" not in usable:
        complaints.append("on_critical: 'rollback' needs checkpoints='some/folder'; it halts")
        usable["on_critical"] = "halt"
    # The outside cannot add them to a stream that the hook inside speaks for.
    if usable.setdefault("system", "outside" in usable) and AUTO not in usable.get(
        "rules", (AUTO,)
    ):
        usable["rules"] = (*usable["rules"], "machine")
    if "rules" in usable:
        usable["tags"] = _telling_packs(usable["rules"], usable.get("tags", {}))
    return Options(**usable), complaints


class _Mended(NamedTuple):
    """A value that is not what was given, with a sentence about each difference."""

    value: Any
    complaints: Sequence[str] = ()


def _name(legal: Callable[[str], str]) -> Callable[[Any], _Mended]:
    def mend(value: Any) -> _Mended:
        text = value if isinstance(value, str) else text_of(value.__str__)
        name = legal(text)
        changed = [] if name == text else [f"{text[:140]!r} is called {name!r}"]
        return _Mended(name, changed)

    return mend


def _url(value: Any) -> _Mended:
    from watchstep.sender.transport import Target

    text = str(value).strip()
    if re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?(/.*)?", text):
        text = f"http://{text}"
        Target.parse(text)
        return _Mended(text, [f"must begin with http:// or https://; taken for {text!r}"])
    try:
        Target.parse(text)
    except SettingsError as error:
        reason = str(error).removeprefix("url: ")
        raise SettingsError(f"{reason}; nothing is sent, updates stay in the spool") from None
    return _Mended(text)


def _secret(value: Any) -> str:
    text = str(value).strip()
    if not (text.isascii() and text.isprintable()):
        raise SettingsError("must hold printable ASCII only; none is sent")
    return text


def _chosen(choices: Sequence[str], otherwise: str) -> Callable[[Any], _Mended]:
    def mend(value: Any) -> _Mended:
        if value in choices:
            return _Mended(value)
        import difflib

        close = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.5)
        choice = close[0] if close else otherwise
        listed = ", ".join(choices)
        return _Mended(
            choice, [f"must be one of {listed}, not {value!r:.80}; taken for {choice!r}"]
        )

    return mend


def _on_critical(value: Any) -> _Mended:
    word = text_of(value.__str__).strip().lower()
    choices = get_args(OnCritical)
    if value in choices:
        return _Mended(value)
    # A halt that nobody asked for by its name costs a training; a typo is told.
    choice = word if word in choices else "alert"
    return _Mended(
        choice, [f"must be one of {_ON_CRITICAL}, not {value!r:.80}; taken for {choice!r}"]
    )


def _rules(value: Any) -> tuple[str, ...]:
    sources = (value,) if isinstance(value, (str, Path)) else tuple(value)
    return tuple(map(str, judging(sources)))


def _config(value: Any) -> _Mended:
    plain, left_out = plain_mapping(value, most_bytes=CONFIG_BYTES)
    cut = f"is more than is shown with a run: {left_out} of its values are left out or cut"
    return _Mended(plain, [cut] if left_out else [])


def _tags(value: Any) -> _Mended:
    return _Mended(*plain_tags(value))


def _roles(value: Any) -> _Mended:
    roles: dict[str, str] = {}
    complaints: list[str] = []
    for name, role in dict(value).items():
        if role in get_args(Role):
            roles[str(name)] = role
        else:
            listed = ", ".join(get_args(Role))
            complaints.append(f"{name!r:.80} must be one of {listed}, not {role!r:.40}")
    return _Mended(roles, complaints)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else text_of(value.__str__)
    return "".join(char if char.isprintable() else " " for char in text)[:64]


def _at_least(least: float, kind: type = float) -> Callable[[Any], Any]:
    def mend(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise SettingsError(f"must be a number of at least {least:g}, not {value!r:.80}")
        return kind(value)

    return mend


def _factor(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise SettingsError(f"must be above 0, not {value!r:.80}")
    return float(value)


_ON_CRITICAL = ", ".join(get_args(OnCritical))
_MENDERS: Mapping[str, Callable[[Any], Any]] = {
    "run": _name(legal_run_name),
    "project": _name(legal_project_name),
    "rules": _rules,
    "url": _url,
    "token": _secret,
    "directory": Path,
    "mode": _chosen(get_args(Mode), "online"),
    "checkpoints": Path,
    "on_critical": _on_critical,
    "tags": _tags,
    "config": _config,
    "trainer": _text,
    "keep": _at_least(1, int),
    "good_after": _at_least(1, int),
    "async_checkpoints": bool,
    "max_rollbacks": _at_least(0, int),
    "rollback_lr_factor": _factor,
    "strict": bool,
    "capture_text": bool,
    "obey_commands": bool,
    "exit_s": _at_least(0),
    "report": bool,
    "catch_sigterm": bool,
    "first_update_s": _at_least(0),
    "terminal": bool,
    "roles": _roles,
    "outside": Path,
    "system": bool,
}


def _unknown(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, _MENDERS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"there is no argument {name!r}{hint}"


def _token() -> tuple[str | None, str]:
    """The token itself, or the content of the file that is named, as secrets are mounted."""
    path = os.environ.get("WATCHSTEP_TOKEN_FILE")
    if not path or os.environ.get("WATCHSTEP_TOKEN"):
        return os.environ.get("WATCHSTEP_TOKEN"), ""
    try:
        return Path(path).read_text(encoding="utf-8").strip(), ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        return None, f"WATCHSTEP_TOKEN_FILE cannot be read: {reason}"


def _invented_name() -> str:
    return f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"


def _telling_packs(rules: tuple[str, ...], tags: Mapping[str, str]) -> Mapping[str, str]:
    """The tags, with the packs that were chosen: the service judges by the same ones."""
    chosen = ",".join(packs_named(",".join(rules)))
    return {PACKS_TAG: chosen, **tags} if chosen else tags
