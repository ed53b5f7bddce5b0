"""`init`: from arguments and environment to a watch, whatever is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from watchstep.boundary import Boundary
from watchstep.core.engine import RuleSet
from watchstep.errors import RuleError, SettingsError, warn
from watchstep.hook.options import DEFAULT_RULES, Options, from_environment
from watchstep.hook.watch import Watch
from watchstep.rules import load


def init(  # noqa: PLR0913 - the contract names them; all have defaults
    run: str | None = None,
    *,
    project: str | None = None,
    rules: str | Path | Sequence[str | Path] | None = None,
    checkpoints: str | Path | None = None,
    on_critical: Literal["alert", "halt", "rollback"] | None = None,
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    strict_init: bool = False,
    **more: Any,
) -> Watch:
    """Begin to watch a training run. Touches no network and starts no thread.

    Args:
        run: Name of the run, `[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}`; a name that was used before
            is the same run's next attempt. Default: WATCHSTEP_RUN, or an invented one.
        project: Default: WATCHSTEP_PROJECT, or "default".
        rules: A pack, a rule file, or several; the pack "generic" always joins them. Default:
            "ppo" and "generic".
        checkpoints: Folder for the checkpoint keeper; without it `save` does nothing.
        on_critical: What a rule's demand to halt leads to. "alert" (default): it is told;
            "halt": `TrainingHalted` is raised; "rollback": the pinned checkpoint is restored
            and training goes on, a limited number of times.
        tags: Short texts that rules (`where`) and people filter by.
        config: Hyper-parameters, shown with the run.
        strict_init: Raise for a bad argument. By default it is warned of and training goes on:
            with the default rules if a rule file is wrong, without watching otherwise.
        more: Fields of `watchstep.hook.options.Options`: url, token, directory, mode, trainer,
            keep, good_after, async_checkpoints, max_rollbacks, rollback_lr_factor, strict,
            capture_text, obey_commands, exit_s, report, catch_sigterm.

    Raises:
        SettingsError, RuleError: Only with `strict_init`.
    """
    given = {
        "run": run,
        "project": project,
        "rules": rules,
        "checkpoints": checkpoints,
        "on_critical": on_critical,
        "tags": tags,
        "config": config,
        **more,
    }
    if strict_init:
        return _begun(given, strict=True)
    watch = Boundary("watchstep is off for this run, training").survive(_begun, given)
    return _off() if watch is None else watch


def _begun(given: Mapping[str, Any], *, strict: bool = False) -> Watch:
    try:
        options = from_environment(given)
    except (SettingsError, TypeError) as error:
        if strict:
            raise SettingsError(str(error)) from error
        warn(f"watchstep is off for this run: {error}")
        return _off()
    if options.mode == "disabled":
        return Watch(options, load([]))
    return Watch(options, _rules(options, strict=strict))


def _off() -> Watch:
    return Watch(Options(run="off", mode="disabled"), load([]))


def _rules(options: Options, *, strict: bool) -> RuleSet:
    try:
        return load(options.rules).for_tags(options.tags)
    except RuleError as error:
        if strict:
            raise
        warn(f"watchstep uses its default rules: {error}")
        return load(DEFAULT_RULES).for_tags(options.tags)
