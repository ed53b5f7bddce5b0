"""When the sender knocks, and when it may knock again."""

from __future__ import annotations

import math
import time

import pytest

from sender.fake_service import poll_until
from watchstep.core.updates import Action, Update
from watchstep.hook.judgement import Judgement
from watchstep.hook.stream import Stream
from watchstep.rules.files import combine, read_text
from watchstep.sender.config import Patience
from watchstep.sender.loop import Pacer


def test_those_who_were_turned_away_together_do_not_come_back_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    pacers = [Pacer(Patience()) for _ in range(1_000)]

    for pacer in pacers:
        pacer.failed(4.0)

    waits = sorted(pacer.not_before for pacer in pacers)
    assert waits[0] >= 4.0
    assert waits[-1] <= 6.0
    busiest = max(sum(at <= wait < at + 0.2 for wait in waits) for at in (4.0, 4.5, 5.0, 5.5, 5.8))
    assert busiest < 250


def _put(trainer, *seqs, reading=0.5):
    for seq in seqs:
        trainer.put(Update(seq, seq, 1.7e9, {"train/loss": reading}))


def test_updates_that_come_fast_share_a_request_with_the_urgent_one_behind_them(service, outbound):
    trainer = outbound(service.url, flush_s=60.0, poll_s=60.0)
    _put(trainer, 1)
    service.wait_for(lambda: service.seqs() == [1])

    _put(trainer, *range(2, 101))
    _put(trainer, 101, reading=math.nan)

    service.wait_for(lambda: service.seqs() == list(range(1, 102)))
    assert [method for method, *_ in service.requests].count("POST") == 2


def test_a_full_batch_does_not_wait_for_more(service, outbound):
    trainer = outbound(service.url, flush_s=60.0, poll_s=60.0)

    _put(trainer, *range(1, 501))

    service.wait_for(lambda: service.seqs()[-1:] == [500])


def test_an_update_after_a_silence_is_sent_at_once(service, outbound):
    trainer = outbound(service.url, flush_s=0.05, poll_s=60.0)
    _put(trainer, 1)
    poll_until(lambda: trainer.stats().queue_len == 0)
    heard = time.monotonic()
    poll_until(lambda: time.monotonic() > heard + 0.1)

    _put(trainer, 2)

    service.wait_for(lambda: service.seqs() == [1, 2], timeout_s=5.0)


def test_an_update_that_makes_a_rule_fire_does_not_wait_for_company(service, outbound):
    rule = b"groups: [{name: g, rules: [{alert: High, expr: loss > 10}]}]"
    stream = Stream(Judgement(combine([read_text(rule, "rules")]), most=Action.HALT))
    stream.outbound = outbound(service.url, flush_s=60.0, poll_s=60.0)
    stream.put({"loss": 1.0})
    service.wait_for(lambda: service.seqs() == [1])
    stream.put({"loss": 2.0})

    stream.put({"loss": 11.0})

    service.wait_for(lambda: service.seqs() == [1, 2, 3])
    assert [transition.change for transition in stream.transitions] == ["firing"]
