"""The same stream, judged live and afterwards."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import watchstep
from watchstep.core.updates import Transition
from watchstep.postmortem.examination import chosen_rules
from watchstep.postmortem.log_summary import fold
from watchstep.postmortem.readers import open_logs
from watchstep.postmortem.readers.logs import joined
from watchstep.postmortem.readers.stream import ConsoleReader

_READING = st.one_of(
    st.sampled_from([0.01, 0.5, -0.3, 1e-5, 20.0, 1e4, 1e9]),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0]),
)
_UPDATE = st.fixed_dictionaries(
    {"train/policy_loss": _READING},
    optional={
        "train/value_loss": _READING,
        "train/approx_kl": _READING,
        "train/clip_fraction": st.sampled_from([0.0, 0.1, 0.99]),
        "train/grad_norm": _READING,
        "train/advantages_norm_max_abs": _READING,
        "train/advantages_count": st.just(64.0),
        "train/advantages_std_raw": _READING,
        "rollout/ep_rew_mean": _READING,
    },
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(_UPDATE, min_size=1, max_size=12),
    st.lists(_UPDATE, min_size=1, max_size=25),
)
def test_live_and_post_mortem_see_the_same_alerts_begin(
    calm: list[dict[str, float]], wild: list[dict[str, float]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WATCHSTEP_MODE", "offline")
        spool = Path(folder) / "spool"
        live = []
        with watchstep.init(run="agreement", rules="ppo", directory=spool) as watch:
            for update in [*calm, *wild, *calm, *wild]:
                watch.log(update)
            live = [edge for edge in watch.transitions if edge.change == "firing"]

        (log,) = open_logs([spool])
        summary = fold(chosen_rules(log, ["ppo"])[1], log.updates)

    assert [_edge(alert) for alert in summary.fired] == [_edge(alert) for alert in live]


@pytest.mark.parametrize(
    "name",
    [
        "filed/llamafactory.jsonl",
        "filed/rllib_new_json.json",
        "filed/lightning_csv.csv",
        "filed/baselines_csv.csv",
        "printed/nanogpt.txt",
    ],
)
def test_what_is_read_of_a_console_is_what_is_read_of_the_text_saved(name: str) -> None:
    path = Path(__file__).parent / "logs" / name
    (log,) = open_logs([path])

    reader = ConsoleReader()
    rows = [*reader.feed(path.read_bytes()), *reader.close()]

    joined_rows = [(row.step, row.readings) for row in joined(iter(rows)) if row.readings]
    updates = [(update.step, update.readings) for update in log.updates]
    assert repr(joined_rows) == repr(updates)  # NaN is not equal to itself.


def _edge(transition: Transition) -> tuple[str, int, int, int | None, str]:
    return (
        transition.rule,
        transition.attempt,
        transition.seq,
        transition.step,
        transition.reason,
    )
