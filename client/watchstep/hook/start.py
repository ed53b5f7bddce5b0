"""`init`: from arguments and environment to a watch, whatever is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from watchstep.boundary import Boundary
from watchstep.core.engine import RuleSet
from watchstep.errors import RuleError, SettingsError, warn
from watchstep.hook.options import DEFAULT_RULES, Mode, OnCritical, Options, from_environment
from watchstep.hook.watch import Watch
from watchstep.rules import load


def init(  # noqa: PLR0913 - one argument a choice; all have defaults
    run: str | None = None,
    *,
    project: str | None = None,
    rules: str | Path | Sequence[str | Path] | None = None,
    roles: Mapping[str, str] | None = None,
    checkpoints: str | Path | None = None,
    on_critical: OnCritical | None = None,
    tags: Mapping[str, Any] | None = None,
    config: Any = None,
    trainer: str | None = None,
    url: str | None = None,
    token: str | None = None,
    directory: str | Path | None = None,
    mode: Mode | None = None,
    report: bool | None = None,
    keep: int | None = None,
    good_after: int | None = None,
    async_checkpoints: bool | None = None,
    max_rollbacks: int | None = None,
    rollback_lr_factor: float | None = None,
    strict: bool | None = None,
    capture_text: bool | None = None,
    obey_commands: bool | None = None,
    catch_sigterm: bool | None = None,
    terminal: bool | None = None,
    system: bool | None = None,
    first_update_s: float | None = None,
    exit_s: float | None = None,
    strict_init: bool = False,
    **unknown: Any,
) -> Watch:
    """Begin to watch a training run. Touches no network and starts no thread.

    An argument that cannot be used costs that argument: one warning says what was wrong and
    what is done instead, and training is watched all the same.

    Args:
        run: Name of the run; one that was used before is the same run's next attempt. What is
            not `[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}` is mapped to that, the same each time.
            Default: WATCHSTEP_RUN, or an invented one.
        project: Default: WATCHSTEP_PROJECT, or "default".
        rules: A pack, a rule file, or several; "generic" joins any pack, and files alone are
            added to the default: the packs for the kind of training that the metrics tell.
        roles: Metric name to role, such as `{"my/objective": "loss"}`, for metrics whose name
            does not say what they are.
        checkpoints: Folder for the checkpoint keeper; without it `save` does nothing.
        on_critical: What a rule's demand to halt leads to. "alert" (default): it is told;
            "halt": `TrainingHalted` is raised; "rollback": the pinned checkpoint is restored
            and training goes on, a limited number of times.
        tags: Short texts that rules (`where`) and people filter by.
        config: Hyper-parameters, shown with the run: a mapping, `argparse.Namespace`,
            dataclass, or anything with fields. Secrets in it are masked.
        trainer: What trains, such as "stable-baselines3 2.9.2".
        url: The service's origin. Default: WATCHSTEP_URL; without any nothing is sent.
        token: Bearer token for the service. Default: WATCHSTEP_TOKEN or WATCHSTEP_TOKEN_FILE.
        directory: The spool's folder. Default: WATCHSTEP_DIR, or ".watchstep".
        mode: "online" (default), "offline" (spool only) or "disabled" (nothing at all).
        report: Whether this process reports. Default: rank 0 of a distributed job does.
        keep: Checkpoints that retention leaves, besides the pin; 3 by default.
        good_after: Healthy updates after a save before it may become the pin; 1 by default.
        async_checkpoints: Whether saves are written in the background, one at a time. Of saves
            that come meanwhile the newest waits and is written, also by `flush` and `finish`;
            older ones are passed over, which a warning and `checkpoint/passed_over` say.
        max_rollbacks: Rollbacks before the next one halts instead; 3 by default.
        rollback_lr_factor: What learning rates are multiplied with after a rollback.
        strict: Read device tensors at once, at the price of a synchronisation each update.
        capture_text: Whether warnings and log lines from WARNING up become events.
        obey_commands: Whether the service may halt this training.
        catch_sigterm: Whether a SIGTERM that nobody else handles is told.
        terminal: Whether the run's link is said on stderr and, where no service answers, one
            line for each critical alert and for a loop that hangs.
        system: Whether memory, disk and GPUs of this machine are told, every five seconds; what
            the extra `machine` brings is told where it is installed.
        first_update_s: Seconds that the first update, and the first time of a marked phase, may
            take before it is late; 600 by default.
        exit_s: Seconds that the run's end may take.
        strict_init: Raise for a bad argument instead of warning.
        unknown: Warned of, with the argument that may have been meant.

    Raises:
        SettingsError, RuleError: Only with `strict_init`.
    """
    arguments = {name: value for name, value in locals().items() if name not in _NOT_OPTIONS}
    arguments |= unknown
    if strict_init:
        return _begun(arguments, strict=True)
    watch = Boundary("watchstep is off for this run, training").survive(_begun, arguments)
    return watch or Watch(Options(run="off", mode="disabled"), load([]))


_NOT_OPTIONS = ("strict_init", "unknown")


def _begun(arguments: Mapping[str, Any], *, strict: bool = False) -> Watch:
    options, complaints = from_environment(arguments)
    if strict and complaints:
        raise SettingsError("; ".join(complaints))
    if options.mode == "disabled":
        return Watch(options, load([]))
    if complaints:
        warn(f"watchstep watches this run all the same: {'; '.join(complaints)}")
    return Watch(options, _rules(options, strict=strict))


def _rules(options: Options, *, strict: bool) -> RuleSet:
    try:
        return load(options.rules, options.roles).for_tags(options.tags)
    except (RuleError, OSError) as error:
        if strict:
            raise
        warn(f"watchstep goes on without a rule file: {error}")
    others = [source for source in options.rules if _loads(source)]
    return load(others or DEFAULT_RULES, options.roles).for_tags(options.tags)


def _loads(source: str) -> bool:
    try:
        load([source])
    except (RuleError, OSError):
        return False
    return True
