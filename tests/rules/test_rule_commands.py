"""`watchstep rules list | check | test | backtest` as a user meets them."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from service.http_kit import served, upd
from watchstep.errors import RuleError
from watchstep.rules import unit_tests
from watchstep.rules.commands import app
from watchstep.rules.series import expand
from watchstep.study.backtest_command import backtest_logs

PACK_TESTS = sorted((Path(__file__).parent / "packs").glob("*.tests.yaml"))


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def call_backtest(*arguments: object):
    alone = typer.Typer()
    alone.command()(backtest_logs)
    return CliRunner().invoke(alone, [str(argument) for argument in arguments])


@pytest.mark.parametrize("path", PACK_TESTS, ids=lambda path: path.name)
def test_every_pack_passes_its_own_tests(path: Path) -> None:
    result = call("test", path)

    assert result.exit_code == 0, result.output


def test_every_pack_has_tests() -> None:
    from watchstep.rules import packs

    assert {path.name.split(".")[0] for path in PACK_TESTS} == set(packs())


def test_a_good_file_is_ok(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("groups: [{name: g, rules: [{alert: R, expr: a > 1}]}]")

    result = call("check", file)

    assert (result.exit_code, result.output) == (0, "1 rules ok\n")


def test_a_bad_file_gives_a_line_for_every_mistake_and_exit_2(tmp_path: Path) -> None:
    file, other = tmp_path / "f.yaml", tmp_path / "none.yaml"
    file.write_text(
        "groups:\n- rules:\n  - {alert: A, expr: a >}\n  - {alert: B, expr: 'fired(C, 1)', x: 1}\n"
    )

    result = call("check", file, other)

    lines = result.output.splitlines()
    assert result.exit_code == 2
    assert lines[0].startswith(f"{file}:3: expr: expected a metric")
    assert lines[1].startswith(f"{file}:4: unknown key 'x' in a rule")
    assert lines[2].startswith(f"{other}: no such file")
    assert len(lines) == 3


def test_a_name_with_control_signs_still_makes_one_printable_line(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text('"\\e[31m\\u2028x": 1')

    result = call("check", file)

    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert "\x1b" not in result.output


def test_list_shows_the_rules_of_a_pack_as_a_table_and_as_json() -> None:
    table, listed = call("list", "ppo"), call("list", "ppo", "--json")

    assert "AdvantagesBeyondBound" in table.output
    first = json.loads(listed.output)[0]
    assert first["rule"] == "AdvantagesBeyondBound"
    assert first["action"] == "halt"
    assert call("list", "nothing").exit_code == 2


def write_test(folder: Path, body: str) -> Path:
    (folder / "rules.yaml").write_text("groups: [{rules: [{alert: R, expr: a > 5}]}]")
    file = folder / "t.yaml"
    file.write_text(f"rule_files: [rules.yaml]\ntests:\n{body}")
    return file


def test_an_unmet_expectation_is_told_with_what_fired_instead(tmp_path: Path) -> None:
    file = write_test(
        tmp_path,
        "  - name: demo\n    input_series: {a: '1 9'}\n    alert_rule_test:\n"
        "      - {update: 1, alertname: R}\n      - {update: 2, alertname: R}\n    only: []\n",
    )

    result = call("test", file)

    assert result.exit_code == 1
    assert f"{file}:6: demo: update 1: expected R firing; firing: none" in result.output
    assert "nothing else was to fire, but did: R (update 2)" in result.output
    assert result.output.endswith("0 tests ok, 1 failed\n")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("  - {name: x, input_series: {a: '1 q'}}", "'q' is no value"),
        ("  - {name: x, input_series: {a: '1x999999'}}", "more than 100000 values"),
        ("  - {alert_rule_test: [{update: 3, alertname: R}]}", "update 3 of a series of 0"),
        (
            "  - {input_series: {a: '1'}, alert_rule_test: [{update: 1, alertname: X}]}",
            "none of the rule files has a rule 'X'",
        ),
        ("  - {nam: x}", "did you mean 'name'?"),
        ("  - {events: [{update: 1, kind: boom}]}", "'boom' is none of started"),
        ("  - {silences: [{update: 1, seconds: 3}]}", "update 1 of a series of 0"),
    ],
)
def test_a_wrong_test_file_is_refused_with_its_line(tmp_path: Path, body: str, says: str) -> None:
    result = call("test", write_test(tmp_path, body))

    assert result.exit_code == 2
    assert says in result.output
    assert ":3: " in result.output


def test_series_are_written_as_in_promtool() -> None:
    assert expand("1 5x3 -2+4x3 1-0.5x2 _ _x2 1e-4") == [
        1, 5, 5, 5, 5, -2, 2, 6, 10, 1, 0.5, 0, None, None, None, 1e-4,
    ]  # fmt: skip
    assert repr(expand("NaN Inf -InfxX1"[:7] + " -Inf NaNx1")) == "[nan, inf, -inf, nan, nan]"


def log(folder: Path, name: str, values: list[float]) -> str:
    lines = ["iteration,train/loss,train/approx_kl"]
    lines += [f"{number},{value},0.01" for number, value in enumerate(values, start=1)]
    (folder / name).mkdir()
    (folder / name / "progress.csv").write_text("\n".join(lines))
    return f"{name}/progress.csv"


def test_backtest_counts_what_was_caught_and_what_was_raised_for_nothing(tmp_path: Path) -> None:
    healthy = log(tmp_path, "good", [1.0] * 20)
    noisy = log(tmp_path, "noisy", [1.0] * 10 + [9.0] + [1.0] * 9)
    bad = log(tmp_path, "bad", [1.0] * 10 + [9.0] * 10)
    runs = [
        {"id": "good", "files": [healthy], "label": "healthy"},
        {"id": "noisy", "files": [noisy], "label": "benign_fault"},
        {"id": "bad", "files": [bad], "label": "diverged", "first_bad_update": 10},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"runs": runs}))
    rules = tmp_path / "r.yaml"
    rules.write_text("groups: [{rules: [{alert: R, expr: train/loss > 5}]}]")

    folders = [tmp_path / name for name in ("good", "noisy", "bad")]
    result = call_backtest("--json", "--rules", rules, *folders)

    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.output)
    assert row["caught"] == 1
    assert row["median_lag_updates"] == 1
    assert row["false_alarms"] == 1
    assert row["healthy_runs"] == 2
    assert row["false_alarms_per_1000_healthy_updates"] == 25.0
    assert row["false_alarms_per_healthy_run"] == 0.5


def test_backtest_without_a_manifest_counts_firings_only(tmp_path: Path) -> None:
    log(tmp_path, "run", [1.0] * 10 + [float("nan")] * 3)

    result = call_backtest("--json", "--rules", "generic", tmp_path / "run")

    rows = {row["rule"]: row for row in json.loads(result.output)}
    assert rows["LossNonFinite"]["firings"] == 1
    assert rows["LossNonFinite"]["caught"] == 0
    assert rows["LossNonFinite"]["false_alarms_per_healthy_run"] is None


def test_backtest_counts_what_people_answered_a_services_alerts(tmp_path: Path) -> None:
    log(tmp_path, "run", [1.0] * 10 + [float("nan")] * 3)
    rules = tmp_path / "data"
    with served(rules) as running:
        running.client.send("a", upd(1, train__grad_norm=50.0))
        running.client.send("b", upd(1, train__grad_norm=50.0))
        alerts = running.client.get("/alerts").json["items"]
        for alert, answer in zip(alerts, ("right", "false alarm"), strict=True):
            running.client.post(f"/alerts/{alert['id']}/answer", {"answer": answer})
        url = f"http://127.0.0.1:{running.client.port}"
        service = ("--rules", rules / "rules.yaml", "--url", url)

        with_logs = call_backtest("--json", *service, tmp_path / "run")
        alone = call_backtest(*service)

    (row,) = (row for row in json.loads(with_logs.output) if row["rule"] == "GradHigh")
    assert (row["answered_right"], row["answered_false"]) == (1, 1)
    assert alone.exit_code == 0, alone.output
    (line,) = (line for line in alone.output.splitlines() if line.startswith("GradHigh"))
    assert line.split()[-2:] == ["1", "1"]
    assert "right  wrong" in alone.output


def test_backtest_of_nothing_readable_exits_2(tmp_path: Path) -> None:
    assert call_backtest("--rules", "generic", tmp_path).exit_code == 2
    assert call_backtest("--rules", "nothing", tmp_path).exit_code == 2


def test_a_unit_test_may_name_the_metric_that_a_rule_fires_for(tmp_path) -> None:
    (tmp_path / "own.yaml").write_text(
        "roles: {a: loss, b: loss}\n"
        "groups: [{name: g, rules: [{alert: High, each: loss, expr: metric > 5},"
        " {alert: Plain, expr: a > 5}]}]\n"
    )
    expected = [
        "{update: 1, alertname: High}",
        "{update: 1, alertname: High, metric: b}",
        "{update: 1, alertname: High, metric: a, firing: false}",
        "{update: 1, alertname: High, metric: a}",
    ]
    series = 'input_series: {a: "1", b: "9"}'
    head = f"rule_files: [own.yaml]\ntests:\n  - name: t\n    {series}\n    alert_rule_test: "
    (tmp_path / "t.yaml").write_text(head + "[" + ", ".join(expected) + "]\n")
    (tmp_path / "wrong.yaml").write_text(head + "[{update: 1, alertname: Plain, metric: a}]\n")

    failures = unit_tests.run(unit_tests.read_tests(str(tmp_path / "t.yaml")))

    assert [failure.reason for failure in failures] == [
        "update 1: expected High of a firing; firing: High of b"
    ]
    with pytest.raises(RuleError, match="Plain has no `each`"):
        unit_tests.read_tests(str(tmp_path / "wrong.yaml"))


def test_checking_tells_every_mistake_of_a_rule(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "groups:\n"
        "  - name: g\n"
        "    rules:\n"
        "      - alert: A\n"
        "        expr: loss >\n"
        "        for: banana\n"
        "        bogus: 1\n"
        "        labels: {severity: nope}\n"
    )

    lines = call("check", file).output.splitlines()

    assert [line.removeprefix(f"{file}:").partition(":")[0] for line in lines] == list("5678")
