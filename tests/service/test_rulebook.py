"""Which rules judge a run in the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchstep.errors import RuleError
from watchstep_monitor.service.run_state.rulebook import RuleBook

MINE = """
groups:
  - name: mine
    rules:
      - {alert: Mine, expr: "train/loss > 5", labels: {severity: info}}
"""


def test_a_run_is_judged_by_the_packs_that_its_trainer_chose(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    book = RuleBook(["ppo", "generic", str(tmp_path / "mine.yaml")])

    silent = book.for_tags({}).index
    chosen = book.for_tags({"packs": "pretrain,generic"}).index

    assert {"KLHigh", "Mine"} <= set(silent)
    assert "LossDoubled" not in silent
    assert {"LossDoubled", "Mine"} <= set(chosen)
    assert "KLHigh" not in chosen


def test_a_pack_that_does_not_exist_changes_nothing() -> None:
    book = RuleBook(["ppo", "generic"])

    assert book.for_tags({"packs": "../../etc/passwd, nonsense"}) is book.rules


def test_a_file_that_builds_on_a_pack_of_the_settings_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.replace("train/loss > 5", "fired(KLHigh, 5)"))
    book = RuleBook(["ppo", "generic", str(tmp_path / "mine.yaml")])

    assert book.for_tags({"packs": "pretrain,generic"}) is book.rules


def test_a_choice_is_never_made_of_a_file_that_was_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    book = RuleBook(["ppo", "generic", str(tmp_path / "mine.yaml")])
    (tmp_path / "mine.yaml").write_text("groups: 7")

    with pytest.raises(RuleError):
        book.reload()

    assert "Mine" in book.for_tags({"packs": "grpo,generic"}).index
    assert book.version == 1
