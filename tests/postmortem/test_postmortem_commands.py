"""`watchstep postmortem` as a stranger runs it: output, exit codes, damage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from postmortem.kit_postmortem import (
    HEALTHY,
    LOGS,
    died_of,
    healthy_rows,
    invoked,
    run_of,
    watchstep_command,
)

BAD = LOGS / "made_bad_rew1e20_pendulum" / "progress.csv"
GOOD = LOGS / "made_ok_regime_s0" / "progress.csv"


def test_the_json_has_what_the_contract_names() -> None:
    done = invoked("postmortem", BAD, "--json")

    (run,) = json.loads(done.stdout)["runs"]
    assert done.returncode == 0
    assert run["verdict"] == "diverged"
    assert run["halt"] is True
    assert (run["first_bad_update"], run["last_good_update"]) == (41, 40)
    assert {"rule", "severity", "action", "first_update", "last_update"} <= set(run["alerts"][0])
    assert 0.0 <= run["causes"][0]["confidence"] <= 1.0
    assert run["causes"][0]["evidence"]
    assert {"path", "format", "partial", "updates", "not_checked"} <= set(run)


def test_the_report_says_the_verdict_and_where_to_go_back_to() -> None:
    done = invoked("postmortem", BAD)

    assert done.returncode == 0
    assert "DIVERGED" in done.stdout
    assert "Since: update 41; the last good one is 40" in done.stdout
    assert "Not judged, since not logged: train/advantages_count" in done.stdout
    assert "Where to go back to" in done.stdout
    assert "Not checked" in done.stdout


@pytest.mark.parametrize(
    ("log", "severity", "code"),
    [(BAD, "critical", 1), (BAD, "info", 1), (GOOD, "warning", 0), (GOOD, "critical", 0)],
)
def test_fail_on_decides_the_exit_code(log: Path, severity: str, code: int) -> None:
    assert invoked("postmortem", log, "--fail-on", severity).returncode == code


def test_readable_paths_are_reported_and_unreadable_ones_are_one_line_each(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "pipe")

    done = watchstep_command("postmortem", tmp_path / "pipe", tmp_path / "gone", GOOD, "--json")

    assert done.returncode == 2
    assert [run["verdict"] for run in json.loads(done.stdout)["runs"]] == ["healthy"]
    pipe, gone = done.stderr.splitlines()
    assert "a named pipe" in pipe
    assert "gone" in gone


@pytest.mark.parametrize("content", [b"", b"\n\n", os.urandom(4096), b"hello\nworld\n"])
def test_a_file_without_a_log_in_it_is_one_line_and_exit_code_3(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "file.log").write_bytes(content)

    done = invoked("postmortem", tmp_path / "file.log")

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_an_empty_folder_is_exit_code_3(tmp_path: Path) -> None:
    assert invoked("postmortem", tmp_path).returncode == 3


def test_a_file_that_may_not_be_read_is_exit_code_2(tmp_path: Path) -> None:
    log = run_of(tmp_path / "run.jsonl", healthy_rows(5))
    log.chmod(0)
    if os.access(log, os.R_OK):
        pytest.skip("root may read everything")

    assert invoked("postmortem", log).returncode == 2


def test_no_path_and_unknown_options_are_usage_errors() -> None:
    assert invoked("postmortem").returncode == 2
    assert invoked("postmortem", GOOD, "--fail-on", "nonsense").returncode == 2


def test_a_wrong_rule_file_is_one_line_with_its_place(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("groups:\n  - name: a\n    rules:\n      - alert: A\n        expr: '1 +'\n")

    done = invoked("postmortem", GOOD, "--rules", rules)

    assert done.returncode == 2
    assert done.stderr.startswith(f"{rules}:")
    assert len(done.stderr.splitlines()) == 1


def test_ones_own_rules_judge_beside_the_packs(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "groups:\n  - name: mine\n    rules:\n      - alert: AnyReward\n"
        "        expr: rollout/ep_rew_mean > -1e9\n        labels: {severity: warning}\n"
    )

    done = invoked("postmortem", GOOD, "--rules", rules, "--json")

    (run,) = json.loads(done.stdout)["runs"]
    assert "AnyReward" in {alert["rule"] for alert in run["alerts"]}
    assert run["rules"][0] == "auto"


def test_a_torn_log_is_reported_and_marked(tmp_path: Path) -> None:
    source = LOGS / "sb3_carla_4"
    (event_file,) = source.glob("events*")
    torn = tmp_path / event_file.name
    torn.write_bytes(event_file.read_bytes()[:-7])

    done = invoked("postmortem", torn, "--json")

    (run,) = json.loads(done.stdout)["runs"]
    assert done.returncode == 0
    assert run["partial"] is True
    assert run["updates"] > 0


def test_many_runs_are_a_table_worst_first_with_sums(tmp_path: Path) -> None:
    for number in range(6):
        run_of(tmp_path / f"run-{number}" / "updates.jsonl", healthy_rows(12))
    lost = [*healthy_rows(12), {**HEALTHY, "train/value_loss": "NaN"}]
    run_of(tmp_path / "run-lost" / "updates.jsonl", lost)

    done = invoked("postmortem", tmp_path)

    assert done.returncode == 0
    assert "run-lost" in done.stdout.splitlines()[1]
    assert "7 runs" in done.stdout
    assert done.stderr == ""


def test_a_death_fails_also_under_rules_that_do_not_know_of_it(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "groups:\n  - name: mine\n    rules:\n      - alert: Never\n"
        "        expr: rollout/ep_rew_mean > 1e99\n        labels: {severity: info}\n"
    )
    log = died_of("KeyError: 'reward'", tmp_path)

    done = invoked("postmortem", log, "--rules", rules, "--fail-on", "critical")

    assert "DIED" in done.stdout
    assert done.returncode == 1


def test_a_secret_that_a_program_printed_as_it_died_is_not_in_the_report(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    secret = "sk-live-abcdef0123456789abcdef0123456789"
    lines = [f"step {step} loss {2.0 - step / 100}" for step in range(30)]
    trace = ["Traceback (most recent call last):", f"KeyError: 'not there; api_key={secret}'"]
    log.write_text("\n".join([*lines, *trace]) + "\n")

    shown = invoked("postmortem", log).stdout + invoked("postmortem", log, "--json").stdout

    assert "KeyError" in shown
    assert secret[8:] not in shown


def test_a_log_without_a_reading_is_not_said_to_be_bad_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("Traceback (most recent call last):\nKeyError: 'x'\n")

    report = invoked("postmortem", log).stdout

    assert "the newest checkpoint that verifies" in report
    assert "begin anew" not in report
