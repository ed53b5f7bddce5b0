"""What a training loop sees of a watch."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import watchstep
from watchstep import Action, TrainingHalted, Watch
from watchstep.hook.options import Options
from watchstep.rules import load

HEALTHY = {"train/policy_loss": 0.01, "train/value_loss": 0.5, "train/grad_norm": 0.4}


def test_a_healthy_update_asks_for_nothing(make: Any) -> None:
    verdict = make().log(HEALTHY, step=1)

    assert verdict.action is Action.NONE
    assert verdict.healthy


def test_by_default_a_nan_is_told_and_training_goes_on(make: Any) -> None:
    watch = make()

    verdict = watch.log({**HEALTHY, "train/value_loss": math.nan}, step=1)

    assert "LossNonFinite" in verdict.firing
    assert verdict.action < Action.HALT


def test_a_nan_halts_when_halts_were_asked_for_although_no_service_exists(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make(on_critical="halt")
    watch.log(HEALTHY, step=1)

    with pytest.raises(TrainingHalted) as caught:
        watch.log({**HEALTHY, "train/value_loss": math.nan}, step=2)

    assert caught.value.rule == "LossNonFinite"
    assert caught.value.exit_code == 76
    assert "LossNonFinite" in capsys.readouterr().err


def test_after_a_halt_the_watch_says_nothing_more(make: Any) -> None:
    watch = make(on_critical="halt")
    with pytest.raises(TrainingHalted):
        watch.log({"train/loss": math.inf})

    assert watch.log({"train/loss": math.inf}).healthy


def test_an_uncaught_halt_ends_the_process_with_its_documented_code(tmp_path: Path) -> None:
    program = f"""
        import watchstep
        watch = watchstep.init(run="r", directory={str(tmp_path)!r}, on_critical="halt")
        watch.log({{"train/loss": float("nan")}})
        print("not reached")
    """

    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 76
    assert "not reached" not in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_proof_stops_the_run_at_the_update_that_breaks_the_bound(make: Any) -> None:
    watch = make(on_critical="halt")
    watch.log({"train/advantages_norm_max_abs": 7.9, "train/advantages_count": 64})

    with pytest.raises(TrainingHalted, match="AdvantagesBeyondBound"):
        watch.log({"train/advantages_norm_max_abs": 8.1, "train/advantages_count": 64})


def test_integers_numpy_numbers_and_tensors_are_readings(make: Any) -> None:
    import numpy as np
    import torch

    watch = make()

    watch.log(
        {
            "a": 1,
            "b": np.float32(2.5),
            "c": torch.tensor(3.5, requires_grad=True),
            "d": torch.tensor([4.5]),
            "e": {"f": np.int64(6)},
            "g": True,
            "huge": 10**400,
        }
    )

    assert watch.errors == {}
    assert watch.losses() == {}


def test_what_is_no_reading_is_left_out_with_one_warning(make: Any) -> None:
    watch = make()

    with pytest.warns(UserWarning, match="leaves out the metric 'note'"):
        watch.log({"note": "text", "train/loss": math.nan})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.log({"note": "text"})

    assert "LossNonFinite" in watch.firing


def test_an_error_inside_never_reaches_the_training_loop(make: Any) -> None:
    watch = make()
    watch._stream.judgement.update = lambda _: 1 / 0

    with pytest.warns(UserWarning, match="goes on after ZeroDivisionError"):
        verdict = watch.log({"train/loss": 0.5})

    assert verdict.healthy
    assert watch.errors == {"ZeroDivisionError": 1}


def test_a_bad_argument_raises_where_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(watchstep.WatchstepError, match="on_critical: must be one of"):
        watchstep.init(run="r", directory=tmp_path, on_critical="hlat", strict_init=True)  # type: ignore[arg-type]


def test_a_bad_rule_file_leaves_the_default_rules_on_guard(tmp_path: Path, make: Any) -> None:
    bad = tmp_path / "rules.yaml"
    bad.write_text("groups:\n  - name: x\n    rulez: []\n")

    with pytest.warns(UserWarning, match=r"rules.yaml:3: unknown key 'rulez'"):
        watch = make(rules=bad)

    assert "LossNonFinite" in watch.log({"train/loss": math.nan}).firing


def test_one_environment_variable_turns_everything_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    monkeypatch.setenv("WATCHSTEP_MODE", "disabled")

    watch = make(on_critical="halt", mode="online", checkpoints=tmp_path / "ckpt")

    assert watch.log({"train/loss": math.nan}).healthy
    assert watch.restore({"model": {}}) is None
    assert not (tmp_path / "spool").exists()


def test_the_token_may_come_from_a_mounted_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    (tmp_path / "token").write_text("wst_secret\n")
    monkeypatch.setenv("WATCHSTEP_TOKEN_FILE", str(tmp_path / "token"))

    assert make(mode="offline").options.token == "wst_secret"


def test_random_numbers_of_the_trainer_are_never_touched(make: Any) -> None:
    import numpy as np
    import torch

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state())

    watch = make()
    for step in range(20):
        watch.log(HEALTHY, step=step)
    watch.finish()

    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tobytes() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_log_lines_and_warnings_are_captured_and_still_go_where_they_went(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    watch = make()
    logging.getLogger("trainer").warning("Non-finite values encountered in loss computation")
    with pytest.warns(UserWarning, match="NaN or Inf found"):
        warnings.warn("NaN or Inf found in input tensor", stacklevel=1)

    verdict = watch.log(HEALTHY)

    assert "TrainerSaysNonFinite" in verdict.firing
    assert "Non-finite values" in caplog.text


def test_nothing_of_logging_is_left_behind(make: Any) -> None:
    import logging

    factory, show, handlers = (
        logging.getLogRecordFactory(),
        warnings.showwarning,
        logging.root.handlers[:],
    )

    watch = make()
    watch.finish()

    assert logging.getLogRecordFactory() is factory
    assert warnings.showwarning is show
    assert logging.root.handlers == handlers


def test_threads_may_log_at_once_and_no_update_is_lost(make: Any) -> None:
    watch = make()

    def work() -> None:
        for _ in range(200):
            watch.log(HEALTHY)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert watch.errors == {}
    assert watch._stream.seq == 800


def test_a_forked_child_does_nothing(make: Any) -> None:
    watch = make(on_critical="halt")
    watch.log(HEALTHY)

    child = os.fork()
    if child == 0:
        verdict = watch.log({"train/loss": math.nan})
        os._exit(0 if verdict.healthy else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0


def test_signals_keep_their_handlers(make: Any) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGINT)}

    make().log(HEALTHY)

    assert {number: signal.getsignal(number) for number in before} == before


def test_dead_units_of_an_observed_model_are_noted(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU())
    with torch.no_grad():
        model[0].bias.fill_(-1e6)
    watch = watchstep.init(run="dead", directory=tmp_path, mode="offline")
    watch.observe(model, every=2)

    for step in range(6):
        model(torch.randn(8, 2))
        watch.log({"train/loss": 1.0 - 0.1 * step}, step=step)

    assert "UnitsDead" in watch.firing
    watch.finish()
    assert not model._forward_pre_hooks


def test_a_model_with_nothing_to_observe_is_warned_of_and_training_goes_on(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    watch = watchstep.init(run="plain", directory=tmp_path, mode="offline")

    with pytest.warns(UserWarning, match=r"no nn\.ReLU"):
        observer = watch.observe(torch.nn.Linear(2, 2))

    assert observer is None
    watch.finish()


def _poisoned(watch: Watch, updates: int) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch.guard(optimizer)
    with torch.no_grad():
        model.weight.fill_(float("nan"))
    for step in range(updates):
        loss = model(torch.ones(4, 2)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.log({"train/accuracy": 0.5}, step=step)


def test_who_asked_for_no_halt_gets_none_however_long_steps_are_skipped(tmp_path: Path) -> None:
    watch = watchstep.init(run="skips", directory=tmp_path, mode="offline")

    _poisoned(watch, 60)

    assert "SkipsWithoutEnd" in watch.firing
    watch.finish()


def test_a_halt_for_skipping_without_end_is_told_as_any_other(tmp_path: Path) -> None:
    from watchstep.postmortem.readers import open_logs

    only = tmp_path / "only.yaml"
    only.write_text(
        "groups: [{name: a, rules: [{alert: A, action: skip,"
        " expr: 'known(guard/nonfinite_gradients, 0) > 0'}]}]"
    )
    spool = tmp_path / "spool"
    watch = Watch(
        Options(run="skips", directory=spool, mode="offline", on_critical="halt"), load([only])
    )

    with pytest.raises(TrainingHalted, match="25 steps skipped in a row"):
        _poisoned(watch, 60)

    events = [update.event for log in open_logs([spool]) for update in log.updates if update.event]
    assert events[-1]["kind"] == "halted"
