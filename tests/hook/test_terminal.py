"""What the person at the terminal reads, in one line each."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest

from sender.fake_service import FakeService, status
from watchstep.errors import say
from watchstep.sender import contact


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("watchstep:")]


def test_with_no_service_a_critical_alert_is_said_once(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make()
    for step in range(5):
        watch.log({"train/loss": math.nan}, step=step)

    (line,) = lines(capsys)
    assert line.startswith("watchstep: critical at step 0: LossNonFinite: train/loss = nan")


def test_one_rule_for_many_metrics_is_one_line(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make()
    for step in range(120):
        watch.log({f"part{part}_loss": 2.34567891 + part for part in range(6)}, step=step)

    critical_lines = [line for line in lines(capsys) if "LossNeverChanged" in line]
    assert len(critical_lines) == 1
    assert "part0_loss" in critical_lines[0]


def test_who_wants_silence_at_the_terminal_has_it(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make(terminal=False).log({"train/loss": math.nan})

    assert lines(capsys) == []


def test_a_service_that_answers_is_said_with_the_run_s_link(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service = FakeService()
    watch = make(run="seen", url=service.url)
    watch.log({"train/loss": math.nan})
    assert watch.flush(20)
    service.stop()

    assert lines(capsys) == [f"watchstep: seen is at {service.url}/runs/seen"]


def critical(step: int) -> str:
    return f"watchstep: critical at step {step}: LossNonFinite: train/loss = nan"


def test_a_service_that_never_answers_tells_nobody_so_the_alert_is_said_here(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make(url=f"http://127.0.0.1:{closed_port()}", exit_s=0.5)
    watch.log({"train/loss": math.nan}, step=0)
    before = lines(capsys)
    watch._stream.outbound._loop._contact._timer.join(30)
    held = lines(capsys)
    for step in range(1, 200):
        watch.log({"train/loss": 1.0}, step=step)
    watch.log({"train/loss": math.nan}, step=200)

    assert before == []
    assert (len(held), held[1]) == (2, critical(0))
    assert critical(200) in lines(capsys)


def test_an_alert_is_said_here_while_a_service_that_answered_is_down(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service = FakeService()
    watch = make(run="seen", url=service.url, exit_s=0.5)
    watch.log({"train/loss": 1.0}, step=0)
    assert watch.flush(20)
    service.behaviour = status(503)
    pacer = watch._stream.outbound._loop.pacer
    for step in range(1, 10):
        watch.log({"train/loss": 1.0}, step=step)
        watch.flush(0.2)
    assert pacer.is_open
    watch.log({"train/loss": math.nan}, step=10)
    service.stop()

    assert lines(capsys)[1:] == [critical(10)]


def test_a_service_that_comes_late_is_said_with_the_run_s_link_and_hears_of_alerts(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service = FakeService()
    service.behaviour = status(503)
    watch = make(run="seen", url=service.url)
    watch.log({"train/loss": 1.0}, step=0)
    watch._stream.outbound._loop._contact._timer.join(30)
    service.behaviour = None
    while not watch.flush(1):
        pass
    watch.log({"train/loss": math.nan}, step=1)
    assert watch.flush(20)
    service.stop()

    missing, link = lines(capsys)
    assert "takes no updates (HTTP 503)" in missing
    assert link == f"watchstep: seen is at {service.url}/runs/seen"


def test_a_failure_is_said_by_its_error(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    watch = make()
    watch.log({"train/loss": 1.0}, step=7)
    watch.finish(RuntimeError("shapes do not match"))

    assert lines(capsys) == [
        "watchstep: critical at step 7: TrainerFailed: RuntimeError: shapes do not match"
    ]


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_wrong_address_is_said_within_five_seconds(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make(url=f"http://127.0.0.1:{closed_port()}")
    watch.log({"train/loss": 1.0})
    loop = watch._stream.outbound._loop

    assert contact._UNHEARD_S < 5
    loop._contact._timer.join(30)

    (line,) = lines(capsys)
    assert "no service at http://127.0.0.1" in line
    assert "(Connection refused)" in line
    assert "WATCHSTEP_URL" in line


def test_a_run_that_is_over_before_says_so_too(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make(url=f"http://127.0.0.1:{closed_port()}", exit_s=0.5)
    watch.log({"train/loss": 1.0})
    watch.finish()

    assert len(lines(capsys)) == 1


def test_without_a_spool_nobody_is_told_that_updates_stay_in_one(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    url, directory = f"http://127.0.0.1:{closed_port()}", tmp_path / "file" / "spool"
    with pytest.warns(RuntimeWarning, match="updates stay in memory only"):
        watch = make(url=url, directory=directory, exit_s=0.5)
    watch.log({"train/loss": 1.0})
    watch.finish()

    assert "updates stay in memory until the training ends, and" in lines(capsys)[0]


def test_one_incident_is_one_line_and_what_else_was_critical_is_counted_at_the_end(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make()
    for step in range(40):
        gone = math.nan if step % 20 >= 10 else 1.0
        watch.log({"train/loss": gone, "train/grad_norm": gone}, step=step)
    before = lines(capsys)
    watch.finish()

    assert len(before) == 1
    (rest,) = lines(capsys)
    assert rest.startswith("watchstep: critical as well since then: ")


def test_warnings_that_still_stand_are_one_line_at_the_end(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make()
    for step in range(40):
        watch.log({"train/loss": 2.0 - step / 40, "guard/gradients_kept": 1.0}, step=step)
    before = lines(capsys)
    watch.finish()

    assert before == []
    (rest,) = lines(capsys)
    assert rest.startswith("watchstep: the run ends with a warning: GradientsNotCleared since step")


def test_what_is_said_at_the_terminal_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    say("stops the command: halted by command: api_key=hunter2hunter2 is wrong")

    assert lines(capsys) == [
        "watchstep: stops the command: halted by command: api_key=*** is wrong"
    ]


def test_a_warning_whose_condition_is_long_over_is_not_what_the_run_ends_with(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "once.yaml"
    rule = "{alert: Once, expr: train/loss > 5, clear: train/loss < 0, labels: {severity: warning}}"
    rules.write_text("groups: [{name: mine, rules: [" + rule + "]}]")
    watch = make(rules=str(rules))
    for step in range(300):
        watch.log({"train/loss": 9.0 if step == 20 else 2.0 - step / 300}, step=step)
    lines(capsys)
    watch.finish()

    assert lines(capsys) == ["watchstep: the run had a warning: Once at step 20: train/loss = 9"]


def test_a_rule_that_waits_is_said_with_the_step_since_which_it_holds(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "wait.yaml"
    rule = "{alert: Wait, expr: train/loss > 5, for: 3 updates, labels: {severity: critical}}"
    rules.write_text("groups: [{name: mine, rules: [" + rule + "]}]")
    watch = make(rules=str(rules))
    for step in range(30):
        watch.log({"train/loss": 9.0 if step >= 20 else 2.0 - step / 300}, step=step)

    assert lines(capsys)[0].startswith("watchstep: critical at step 20: Wait: ")
