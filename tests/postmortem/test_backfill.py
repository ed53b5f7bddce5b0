"""Old runs sent into a service on a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postmortem.kit_postmortem import (
    HEALTHY,
    LOGS,
    healthy_rows,
    invoked,
    run_of,
    watchstep_command,
)
from sender.fake_service import FakeService, status


@pytest.fixture
def service() -> Iterator[FakeService]:
    made = FakeService()
    yield made
    made.stop()


def sent(service: FakeService, *paths: Path) -> list[dict[str, object]]:
    done = invoked("import", *paths, "--url", service.url, "--notify")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_log_arrives_whole_in_order_and_finished(service: FakeService, tmp_path: Path) -> None:
    rows = [*healthy_rows(1200), {**HEALTHY, "train/value_loss": "NaN"}]
    log = run_of(tmp_path / "old-run" / "updates.jsonl", rows)

    (report,) = sent(service, log)

    assert (report["run"], report["accepted"], report["rejected"]) == ("old-run", 1202, 0)
    assert service.faults == []
    kept = service.updates("old-run")
    assert [update["seq"] for update in kept] == list(range(1, 1203))
    assert kept[1200]["metrics"]["train/value_loss"] == "NaN"
    assert kept[-1]["event"]["kind"] == "finished"


def test_sending_twice_has_no_second_effect(service: FakeService) -> None:
    log = LOGS / "made_ok_regime_s0" / "progress.csv"
    (first,) = sent(service, log)

    (second,) = sent(service, log)

    assert second["accepted"] == 0
    assert second["duplicates"] == first["accepted"]


def test_a_resumed_run_is_renumbered_for_each_attempt(service: FakeService, tmp_path: Path) -> None:
    log = tmp_path / "resumed" / "updates.jsonl"
    log.parent.mkdir()
    numbers = [*range(1, 31), *range(21, 41)]
    log.write_text("".join(json.dumps({"update": n, **HEALTHY}) + "\n" for n in numbers))

    (report,) = sent(service, log)

    assert report["attempts"] == 2
    assert service.seqs("resumed", 1) == list(range(1, 31))
    assert service.seqs("resumed", 2) == list(range(1, 22))
    assert service.faults == []


def test_an_update_with_too_many_metrics_keeps_those_that_rules_watch(
    service: FakeService, tmp_path: Path
) -> None:
    extra = {f"a/{n}": 1.0 for n in range(400)}
    log = run_of(tmp_path / "wide" / "updates.jsonl", [{**extra, **HEALTHY}] * 3)

    (report,) = sent(service, log)

    metrics = service.updates("wide")[0]["metrics"]
    assert len(metrics) == 256
    assert set(HEALTHY) <= set(metrics)
    assert report["dropped_metrics"] == 3 * (400 + len(HEALTHY) - 256)


def test_two_logs_of_one_name_become_two_runs(service: FakeService, tmp_path: Path) -> None:
    logs = [run_of(tmp_path / side / "ppo" / "updates.jsonl", healthy_rows(5)) for side in "ab"]

    reports = sent(service, *logs)

    assert [report["run"] for report in reports] == ["ppo", "ppo-2"]


def test_a_service_that_is_not_there_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    log = run_of(tmp_path / "run" / "updates.jsonl", healthy_rows(5))
    environment = FakeService()
    url = environment.url
    environment.stop()

    done = watchstep_command("import", log, "--url", url, "--notify", timeout_s=120)

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def _silences(service: FakeService) -> list[dict[str, object]]:
    return [body for _, path, _, body in service.requests if path == "/api/v1/silences"]


def test_nobody_is_paged_by_the_alerts_of_an_old_run(service: FakeService, tmp_path: Path) -> None:
    def silence(handler: Any) -> bool:
        if handler.path.endswith("/silences"):
            handler.answer(201, {"id": "s"})
            return True
        return False

    service.behaviour = silence
    log = run_of(tmp_path / "old" / "updates.jsonl", healthy_rows(5))

    done = invoked("import", log, "--url", service.url)

    assert done.returncode == 0
    assert [body["matchers"] for body in _silences(service)] == [['run="old"']]
    assert service.requests[0][1] == "/api/v1/silences"


def test_where_no_silence_can_be_made_nothing_is_imported(
    service: FakeService, tmp_path: Path
) -> None:
    service.behaviour = status(403, {"title": "scope admin is missing"}, "application/problem+json")
    log = run_of(tmp_path / "old" / "updates.jsonl", healthy_rows(5))

    done = invoked("import", log, "--url", service.url)

    assert done.returncode == 1
    assert "scope admin is missing" in done.stderr
    assert "--notify" in done.stderr
    assert service.stored == {}


def test_a_busy_service_is_asked_again(service: FakeService, tmp_path: Path) -> None:
    turned_away = 0

    def busy(handler: Any) -> bool:
        nonlocal turned_away
        if handler.command == "POST" and turned_away < 2:
            turned_away += 1
            handler.answer(429, {"title": "busy"}, Retry_After="0")
            return True
        return False

    service.behaviour = busy
    log = run_of(tmp_path / "old" / "updates.jsonl", healthy_rows(5))

    (report,) = sent(service, log)

    assert report["accepted"] == 6
    assert turned_away == 2
