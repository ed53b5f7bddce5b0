"""`watchstep run` and `watchstep follow`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watchstep.errors import say
from watchstep.postmortem.reading import Paths, check_rules

if TYPE_CHECKING:
    from watchstep.hook.options import Options


class OnCritical(StrEnum):
    """What a rule's demand to halt leads to."""

    ALERT = "alert"
    HALT = "halt"


Words = Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command to run.")]
Run = Annotated[
    str | None,
    typer.Option("--run", help="Name of the run. Default: WATCHSTEP_RUN, or an invented one."),
]
Project = Annotated[str | None, typer.Option(help="Default: WATCHSTEP_PROJECT.")]
Rules = Annotated[
    list[str] | None,
    typer.Option(help="Pack or rule file, may be given again. Default: by what is reported."),
]
Critical = Annotated[
    OnCritical, typer.Option(help="Whether rules that ask for a halt stop the command.")
]
Grace = Annotated[float, typer.Option(min=0.0, help="Seconds between SIGINT, SIGTERM and SIGKILL.")]
Restart = Annotated[
    int, typer.Option(min=0, help="Start it again after a crash or hang, so many times.")
]
Watched = Annotated[
    list[Path] | None, typer.Option(help="A log file or folder to read; may be given again.")
]
HangAfter = Annotated[
    float, typer.Option(min=0.1, help="Seconds of silence that are no hang in any case.")
]
FollowedRun = Annotated[
    str | None,
    typer.Option("--run", help="Name of the run; of several, what their names begin with."),
]
UntilIdle = Annotated[
    float | None, typer.Option(min=0.0, help="End when nothing was added for so many seconds.")
]
Once = Annotated[bool, typer.Option("--once", help="Read what is there, and end.")]
Buffered = Annotated[bool, typer.Option("--buffered", help="Do not set PYTHONUNBUFFERED=1.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the one command."""
    # What follows the command's name belongs to it, with or without `--`.
    app.command("run", context_settings={"allow_interspersed_args": False})(run)
    app.command("follow")(follow)


def run(
    words: Words,
    run_name: Run = None,
    project: Project = None,
    rules: Rules = None,
    on_critical: Critical = OnCritical.ALERT,
    grace: Grace = 60.0,
    restart: Restart = 0,
    watch: Watched = None,
    hang_after: HangAfter = 600.0,
    buffered: Buffered = False,
) -> None:
    """Run a training and watch it from outside: its output, its log files, its end.

    Output passes through unchanged. The exit code is the command's own, 128 and the signal's
    number where a signal killed it, also where watchstep sent it because the command hung, and 76
    where watchstep halted it.
    """
    from watchstep.hook.environment import place_facts
    from watchstep.masking import masked_arguments
    from watchstep.outside.command import CannotStartError
    from watchstep.outside.observer import Watching
    from watchstep.outside.runner import RunSettings, run_command

    check_rules(rules)
    command = " ".join(masked_arguments(words))
    arguments = {"run": run_name, "project": project, "rules": rules, "trainer": "watchstep run"}
    config = {"command": command, "environment": place_facts()}
    options = _options({**arguments, "config": config})
    settings = RunSettings(
        words=words,
        watching=Watching(options, watch or [], hang_after),
        on_critical=on_critical.value,
        grace_s=grace,
        restarts=restart,
        unbuffered=not buffered,
    )
    try:
        code = run_command(settings)
    except CannotStartError as error:
        say(str(error))
        raise typer.Exit(error.exit_code) from None
    raise typer.Exit(code)


def follow(
    paths: Paths,
    run_name: FollowedRun = None,
    project: Project = None,
    rules: Rules = None,
    until_idle: UntilIdle = None,
    once: Once = False,
) -> None:
    """Watch logs that grow, as live runs: files, or folders in which new ones appear.

    Where it has read to is kept in the spool's folder: started again it tells nothing twice.
    Exit 0 when logs were read, 3 when there were none.
    """
    from watchstep.hook.environment import place_facts
    from watchstep.outside.follow import Follower, FollowSettings

    check_rules(rules)
    settings = FollowSettings(
        paths=paths,
        options=_options({"project": project, "config": {"environment": place_facts()}}),
        run_name=run_name,
        rules=rules,
        until_idle_s=until_idle,
        once=once,
    )
    raise typer.Exit(Follower(settings).follow())


def _options(arguments: Mapping[str, Any]) -> Options:
    """Arguments and the environment; a line for each that cannot be used."""
    from watchstep.hook.options import from_environment

    # Under a hook a warning names the user's line; here it would name one of Python's threads.
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
    options, complaints = from_environment(arguments)
    for complaint in complaints:
        say(complaint)
    return options
