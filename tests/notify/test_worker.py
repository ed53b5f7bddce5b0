"""The delivery worker, against real servers on real sockets."""

from __future__ import annotations

import json
import logging
import statistics
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from notify.kit import (
    START,
    ManualClock,
    MemoryOutbox,
    Reply,
    alert,
    config,
    http_receiver,
    notice,
    running,
)
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.notify.worker import LEASE_S
from watchstep_monitor.service.clock import SystemClock
from watchstep_monitor.service.events import DeliveryAttempted, EventBus, OutboxTrouble
from watchstep_monitor.service.ports import Dead, Delivered, ReceiverGone, Retry


@pytest.fixture
def outbox():
    return MemoryOutbox()


@pytest.fixture
def server():
    with http_receiver() as made:
        yield made


@pytest.fixture
def ops(server):
    return ReceiverConfig("ops", "webhook", server.url)


class Tally:
    def __init__(self):
        self.results = []
        self.errors = 0
        self.broke = threading.Event()
        self.bus = EventBus(ManualClock())
        self.bus.subscribe(DeliveryAttempted, self._attempted)
        self.bus.subscribe(OutboxTrouble, self._broken)

    def _attempted(self, event):
        self.results.append((event.receiver, event.result))

    def _broken(self, _):
        self.errors += 1
        self.broke.set()


def test_what_waits_in_the_outbox_arrives_and_is_settled(server, outbox, ops):
    tally = Tally()
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), ManualClock(), bus=tally.bus)) as worker:
        outbox.until_settled(1)
        status = worker.receivers()[0]

    assert outbox.outcomes() == [Delivered()]
    assert json.loads(server.requests[0].body)["watchstep"]["incident"] == "inc-1"
    assert server.requests[0].path == "/hook?key=hush"
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"
    assert (status.delivered, status.last_error, status.last_delivered_at) == (1, "", START)
    assert tally.results == [("ops", "delivered")]


def test_a_500_is_tried_again_under_the_same_id_until_it_is_taken(server, outbox, ops):
    tally = Tally()
    server.replies = [Reply(500), Reply(503), Reply(200)]
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), ManualClock(), bus=tally.bus)):
        outbox.until_settled(3)

    assert [type(outcome) for outcome in outbox.outcomes()] == [Retry, Retry, Delivered]
    assert {request.headers["webhook-id"] for request in server.requests} == {"nt-1"}
    assert [result for _, result in tally.results] == ["retry", "retry", "delivered"]


def test_retry_after_is_waited_for_before_the_next_attempt(server, outbox, ops):
    clock = ManualClock()
    server.replies = [Reply(429, {"retry-after": "90"})]
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), clock)) as worker:
        outbox.until_settled(1)
        clock.passed_s = 89.0
        worker.wake()
        outbox.put("ops", notice(incident="inc-2"))
        outbox.until_settled(2)
        before = len(server.requests)
        clock.passed_s = 90.0
        worker.wake()
        outbox.until_settled(3)

    first = outbox.rows[0].outcomes[0]
    assert isinstance(first, Retry)
    assert first.at == START + timedelta(seconds=90)
    # The first attempt, and the other incident's, which does not wait behind it.
    assert before == 2
    assert outbox.rows[0].outcomes[1] == Delivered()


def test_a_receiver_that_is_gone_is_never_called_again_and_shows_it(server, outbox, ops):
    tally = Tally()
    server.replies = [Reply(410)]
    for number in range(6):
        outbox.put("ops", notice(incident=f"inc-{number}"))

    with running(Worker(outbox, config(ops), ManualClock(), bus=tally.bus)) as worker:
        outbox.until(lambda rows: all(row.state == "dead" for row in rows))
        outbox.put("ops", notice(incident="later"))
        worker.wake()
        outbox.until(lambda rows: rows[-1].state == "dead")
        trial = worker.send_test("ops")
        status = worker.receivers()[0]

    assert len(server.requests) == 1
    assert outbox.outcomes()[0] == ReceiverGone("HTTP 410: the receiver is gone")
    assert "410" in status.disabled
    assert not trial.delivered
    assert "410" in trial.reason
    assert tally.results == [("ops", "gone")]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_that_will_not_change_is_dead_at_once(server, outbox, ops, status):
    server.replies = [Reply(status)]
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), ManualClock())):
        outbox.until_settled(1)

    assert outbox.outcomes() == [Dead(f"HTTP {status}")]


def test_redirects_are_not_followed():
    outbox = MemoryOutbox()
    with http_receiver() as server, http_receiver() as elsewhere:
        server.replies = [Reply(307, {"location": elsewhere.url})]
        outbox.put("ops", notice())

        with running(
            Worker(outbox, config(ReceiverConfig("ops", "webhook", server.url)), ManualClock())
        ):
            outbox.until_settled(1)

        assert outbox.outcomes() == [Dead("HTTP 307: redirects are not followed")]
        assert elsewhere.requests == []


def test_attempts_are_capped(server, outbox, ops):
    server.replies = [Reply(500)] * 9
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops, max_attempts=3), ManualClock())):
        outbox.until(lambda rows: rows[0].state == "dead")

    assert outbox.outcomes()[-1] == Dead("HTTP 500; given up after 3 attempts")
    assert len(server.requests) == 3


def test_resolved_never_overtakes_opened_though_opened_needs_retries(server, outbox, ops):
    server.replies = [Reply(500), Reply(500), Reply(429)]
    for number in range(3):
        outbox.put("ops", notice(id=f"o{number}", incident=f"i{number}"))
        outbox.put("ops", notice(id=f"r{number}", incident=f"i{number}", edge="resolved"))

    with running(Worker(outbox, config(ops), ManualClock())):
        outbox.until(lambda rows: all(row.state == "delivered" for row in rows))

    ids = [request.headers["webhook-id"] for request in server.requests]
    for number in range(3):
        assert max(i for i, sent_id in enumerate(ids) if sent_id == f"o{number}") < ids.index(
            f"r{number}"
        )


def test_a_receiver_that_never_answers_delays_no_other():
    outbox = MemoryOutbox()
    with http_receiver() as slow, http_receiver() as quick:
        slow.release.clear()
        receivers = (
            ReceiverConfig("slow", "webhook", slow.url),
            ReceiverConfig("quick", "webhook", quick.url),
        )
        for number in range(20):
            outbox.put("slow", notice(incident=f"s{number}"))
            outbox.put("quick", notice(incident=f"q{number}"))

        with running(Worker(outbox, config(*receivers), ManualClock())):
            slow.until(1)
            outbox.until(
                lambda rows: all(
                    row.state == "delivered" for row in rows if row.delivery.receiver == "quick"
                )
            )
            waiting_there = len(slow.requests)
            slow.release.set()
            outbox.until(lambda rows: all(row.state == "delivered" for row in rows))

        # Not yet proved healthy, so one at a time.
        assert waiting_there == 1


def test_a_receiver_whose_name_never_resolves_delays_no_other():
    outbox, hang = MemoryOutbox(), threading.Event()

    def resolve(host, port):
        hang.wait(20)
        raise OSError("no such name")

    with http_receiver() as quick:
        receivers = (
            ReceiverConfig("dead", "webhook", "https://hook.example.org/x"),
            ReceiverConfig("quick", "webhook", quick.url),
        )
        for number in range(10):
            outbox.put("dead", notice(incident=f"d{number}"))
            outbox.put("quick", notice(incident=f"q{number}"))

        with running(Worker(outbox, config(*receivers), ManualClock(), resolve=resolve)):
            outbox.until(
                lambda rows: all(
                    row.state == "delivered" for row in rows if row.delivery.receiver == "quick"
                )
            )
            hang.set()


def test_an_answer_that_takes_too_long_is_tried_again(server, outbox, ops):
    server.release.clear()
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops, timeout_s=0.2), ManualClock(), chance=lambda: 0.5)):
        outbox.until_settled(1)
        server.release.set()
        outbox.until(lambda rows: rows[0].state == "delivered")

    first = outbox.outcomes()[0]
    assert isinstance(first, Retry)
    assert first.reason in {"no answer within 0.2 s", "no answer in time"}


def test_a_huge_answer_is_read_only_in_part_and_its_status_counts(server, outbox, ops):
    server.replies = [Reply(200, body=b"x" * 50_000_000)]
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), ManualClock())):
        outbox.until_settled(1)
        # The receiver could not write all of it: we hung up.
        assert server.hung_up.wait(20)

    assert outbox.outcomes() == [Delivered()]


def test_the_rate_cap_holds_over_a_minute_and_loses_nothing():
    outbox, clock = MemoryOutbox(), ManualClock()
    with http_receiver() as server, http_receiver() as other:
        ops = ReceiverConfig("ops", "webhook", server.url)
        free = ReceiverConfig("other", "webhook", other.url)
        for number in range(10):
            outbox.put("ops", notice(incident=f"i{number}"))

        with running(Worker(outbox, config(ops, free, rate_per_minute=4), clock)) as worker:
            outbox.until_settled(4)
            clock.passed_s = 59.9
            # The other receiver's delivery proves that the worker has looked again.
            outbox.put("other", notice())
            worker.wake()
            other.until(1)
            outbox.until_settled(5)
            in_first_minute = len(server.requests)
            clock.passed_s = 60.0
            worker.wake()
            outbox.until_settled(9)
            clock.passed_s = 120.0
            worker.wake()
            outbox.until_settled(11)

        assert in_first_minute == 4
        assert all(row.state == "delivered" for row in outbox.rows)


def test_an_unknown_receiver_is_a_dead_letter_and_no_crash(outbox, ops):
    outbox.put("removed", notice())
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), ManualClock())):
        outbox.until_settled(2)

    assert outbox.rows[0].outcomes == [Dead("no receiver of that name is configured")]
    assert outbox.rows[1].outcomes == [Delivered()]


def test_an_outbox_in_trouble_is_counted_and_deliveries_go_on_after_it(outbox, ops):
    tally = Tally()
    outbox.fail_with = RuntimeError("disk full at /secret/place")
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), ManualClock(), bus=tally.bus)):
        assert tally.broke.wait(20)
        outbox.fail_with = None
        outbox.until_settled(1)

    assert tally.errors >= 1
    assert outbox.outcomes() == [Delivered()]


def test_a_test_message_says_what_happened_to_it(server, outbox, ops):
    server.replies = [Reply(200), Reply(401)]

    with running(Worker(outbox, config(ops), ManualClock())) as worker:
        trial = worker.send_test("ops")
        refused = worker.send_test("ops")
        with pytest.raises(KeyError):
            worker.send_test("nobody")

    assert (trial.delivered, trial.reason) == (True, "")
    assert (refused.delivered, refused.reason) == (False, "HTTP 401")
    assert json.loads(server.requests[0].body)["watchstep"]["edge"] == "test"


def test_neither_address_nor_secret_is_ever_logged(server, outbox, ops, caplog):
    caplog.set_level(logging.DEBUG)
    server.replies = [Reply(500), Reply(404), Reply(307, {"location": server.url})]
    ops = ReceiverConfig("ops", "webhook", server.url, secret="topsecret1")
    gone = ReceiverConfig("gone", "slack", "http://127.0.0.1:9/hush/hush")
    outbox.put("ops", notice())
    outbox.put("ops", notice(incident="inc-2"))
    outbox.put("gone", notice())

    with running(Worker(outbox, config(ops, gone, max_attempts=2), ManualClock())) as worker:
        outbox.until(lambda rows: all(row.state != "waiting" for row in rows))
        shown = repr(worker.receivers()) + repr(ops)

    everything = shown + "".join(repr(vars(record)) for record in caplog.records)
    everything += repr(outbox.outcomes())
    assert "ops" in everything
    for secret in ("hush", "topsecret1", str(server.port)):
        assert secret not in everything


def test_stopping_waits_for_what_is_under_way_and_starts_nothing_more(server, outbox, ops):
    server.release.clear()
    outbox.put("ops", notice())
    outbox.put("ops", notice(incident="inc-2"))
    worker = Worker(outbox, config(ops), ManualClock())
    worker.start()
    server.until(1)
    threading.Timer(0.2, server.release.set).start()

    worker.stop(timeout_s=5.0)

    assert outbox.outcomes() == [Delivered()]
    assert len(server.requests) == 1
    worker.wake()
    with pytest.raises(RuntimeError, match="not running"):
        worker.send_test("ops")


def test_what_was_given_up_at_the_stop_is_sent_once_more_when_its_lease_ends(server, outbox, ops):
    clock = ManualClock()
    server.release.clear()
    outbox.put("ops", notice())
    first = Worker(outbox, config(ops), clock)
    first.start()
    server.until(1)
    first.stop(timeout_s=0.05)
    server.release.set()
    unsettled = outbox.outcomes()
    clock.passed_s = LEASE_S

    with running(Worker(outbox, config(ops), clock)):
        outbox.until_settled(1)

    assert unsettled == []
    assert [request.headers["webhook-id"] for request in server.requests] == ["nt-1", "nt-1"]


def test_settings_that_can_never_work_are_refused_at_the_start():
    outbox, clock = MemoryOutbox(), ManualClock()
    bad_secret = ReceiverConfig("ops", "webhook", "https://h.example.org", secret="whsec_!")
    nobody = ReceiverConfig("mail", "email", "smtp://mail.example.org?from=a@example.org")

    with pytest.raises(ValueError, match=r"receivers\.ops\.secret"):
        Worker(outbox, config(bad_secret), clock)
    with pytest.raises(ValueError, match=r"receivers\.mail\.url"):
        Worker(outbox, config(nobody), clock)
    with pytest.raises(ValueError, match=r"receivers\.ops\.url") as caught:
        ReceiverConfig("ops", "webhook", "ftp://hush.example.org")
    assert "hush" not in str(caught.value)


def test_a_wake_up_reaches_the_receiver_long_before_the_next_look(server, outbox, ops):
    outbox, took_s = MemoryOutbox(), []
    ops = ReceiverConfig("ops", "webhook", server.url, secret="whsec_MTIzNDU2Nzg=")
    many = config(ops, poll_s=60.0, rate_per_minute=1000)
    with running(Worker(outbox, many, SystemClock())) as worker:
        for number in range(30):
            message = notice(incident=f"i{number}", alerts=(alert(),) * 5)
            started = time.monotonic()
            outbox.put("ops", replace(message, id=f"n{number}"))
            worker.wake()
            server.until(number + 1)
            took_s.append(time.monotonic() - started)
            outbox.until_settled(number + 1)

    # How many milliseconds it takes, `benchmarks/alert_latency.py` says.
    assert statistics.median(took_s) < 5.0


def test_a_slow_receivers_message_stays_leased_while_it_is_under_way(server, outbox, ops):
    clock = ManualClock()
    server.release.clear()
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops, timeout_s=30.0), clock)):
        server.until(1)
        clock.passed_s = 60.0
        outbox.until(lambda _: outbox.renewed > 0)
        lease = outbox.rows[0].leased_until
        server.release.set()
        outbox.until_settled(1)

    assert lease == START + timedelta(seconds=60.0 + LEASE_S)
    assert len(server.requests) == 1


def test_the_heart_beats_while_the_service_works(server):
    working = threading.Event()
    beating = config(heartbeat_url=server.url, heartbeat_s=0.01)
    worker = Worker(MemoryOutbox(), beating, ManualClock(), ready=working.is_set)
    with running(worker):
        assert not server.requests
        working.set()
        server.until(3)

    assert server.requests[0].path == "/hook?key=hush"


def script(folder, text):
    path = folder / "hook.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return ReceiverConfig("ops", "script", str(path))


def test_a_script_reads_the_webhooks_body_and_its_exit_code_counts(tmp_path):
    outbox = MemoryOutbox()
    ops = script(
        tmp_path,
        f"cat > {tmp_path}/body; cd {tmp_path}; test -e again || {{ touch again; exit 3; }}",
    )
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops), ManualClock())):
        outbox.until_settled(2)

    assert [type(outcome) for outcome in outbox.outcomes()] == [Retry, Delivered]
    assert outbox.outcomes()[0].reason == "exit code 3"
    assert json.loads((tmp_path / "body").read_text())["watchstep"]["run"] == "ppo-7"


def test_a_script_that_does_not_end_is_killed(tmp_path):
    outbox = MemoryOutbox()
    ops = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    outbox.put("ops", notice())

    with running(Worker(outbox, config(ops, timeout_s=0.5, max_attempts=1), ManualClock())):
        outbox.until_settled(1)

    assert outbox.outcomes()[0].reason.startswith("no answer within 0.5 s")
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_github_gets_a_comment_with_its_token(server, outbox):
    issue = ReceiverConfig("ops", "github", server.url, secret="ghp_1")
    outbox.put("ops", notice())
    with running(Worker(outbox, config(issue), ManualClock())):
        outbox.until_settled(1)

    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer ghp_1"
    assert "- **Since**: update 1,098" in json.loads(request.body)["body"]
