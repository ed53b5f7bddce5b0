"""What is put arrives: in order, once, through everything a service can do."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from sender.fake_service import (
    PROBLEM,
    black_hole,
    drip,
    lost_answer,
    poll_until,
    reset,
    status,
)
from watchstep.core.updates import Update
from watchstep.sender.replay import replay
from watchstep.sender.session import sessions


def update(seq, *, event=None, **readings):
    return Update(seq, seq * 10, 1.7e9 + seq, readings or {"train/loss": seq + 0.5}, event)


def put_all(outbound, first, last):
    for seq in range(first, last + 1):
        outbound.put(update(seq))


def assert_all_arrive(service, trainer, count):
    put_all(trainer, 1, count)

    assert trainer.flush(10)
    assert service.seqs() == list(range(1, count + 1))
    assert trainer.losses() == {}


def test_updates_arrive_in_order_under_the_attempt_that_the_service_assigned(service, outbound):
    trainer = outbound(service.url, project="p", tags={"env": "x"}, config={"lr": 3e-4}, token="t")

    put_all(trainer, 1, 1200)

    assert trainer.flush(10)
    assert service.seqs() == list(range(1, 1201))
    assert service.faults == []
    assert trainer.attempt == 1
    assert service.begun[0]["project"] == "p"
    assert service.begun[0]["tags"] == {"env": "x"}
    assert service.begun[0]["config"] == {"lr": 3e-4}
    assert service.requests[0][2]["Authorization"] == "Bearer t"
    assert trainer.losses() == {}
    assert trainer.stats().sent == 1200


def test_a_service_that_takes_rows_gets_rows_and_events_among_them(service, outbound):
    service.takes_rows = True
    trainer = outbound(service.url, queue_updates=100)

    put_all(trainer, 1, 700)
    trainer.put(update(701, event={"kind": "log", "level": "info", "text": "x"}, a=math.nan))
    put_all(trainer, 702, 720)

    assert trainer.flush(10)
    kinds = {headers["Content-Type"] for method, _, headers, _ in service.requests[1:]}
    assert kinds == {"application/vnd.watchstep.rows"}
    assert service.seqs() == list(range(1, 721))
    assert service.updates()[700]["metrics"] == {"a": "NaN"}
    assert service.updates()[700]["event"]["text"] == "x"
    assert service.faults == []


def test_a_service_that_refuses_rows_after_all_gets_json(service, outbound):
    def refuses(handler):
        refused = handler.headers["Content-Type"] == "application/vnd.watchstep.rows"
        if refused:
            handler.answer(415, {"title": "json only"}, PROBLEM)
        return refused

    service.takes_rows = True
    service.behaviour = refuses
    assert_all_arrive(service, outbound(service.url), 20)


def test_non_finite_readings_and_events_arrive_as_they_were_put(service, outbound):
    trainer = outbound(service.url)

    trainer.put(update(1, a=math.nan, b=math.inf, c=-math.inf, d=1e-300))
    trainer.put(update(2, event={"kind": "failed", "error": "\ud800", "code": math.nan}))

    assert trainer.flush(10)
    first, second = service.updates()
    assert first["metrics"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 1e-300}
    assert second["event"] == {"kind": "failed", "error": "?", "code": "NaN"}


def test_making_an_outbound_touches_no_network_and_starts_no_thread(service, outbound):
    threads = len(list(Path("/proc/self/task").iterdir()))

    outbound(service.url)

    assert len(list(Path("/proc/self/task").iterdir())) == threads
    assert service.requests == []


def test_an_urgent_update_does_not_wait_for_company(service, outbound):
    trainer = outbound(service.url, flush_s=5.0)

    trainer.put(update(1, a=math.nan))

    service.wait_for(lambda: service.seqs() == [1], timeout_s=2.0)


@pytest.mark.parametrize(
    "trouble",
    [
        status(500),
        status(503, Retry_After="1"),
        status(429),
        status(401),
        status(404),
        status(200, b"<html>log in</html>", "text/html"),
        status(202, b"{not json"),
        status(202, b"[]"),
        status(400, b"<html>bad</html>", "text/html"),
        status(302, Location="http://127.0.0.1:9/"),
        status(200, b"x" * 70_000),
        reset,
        drip,
        black_hole,
    ],
    ids=[
        "500", "503", "429", "401", "404", "html", "no-json", "no-object", "proxy-400",
        "redirect", "endless", "reset", "drip", "black-hole",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:watchstep's service turns updates away")
def test_a_service_in_trouble_costs_nothing_but_time(service, outbound, trouble):
    service.behaviour = trouble
    trainer = outbound(service.url)
    put_all(trainer, 1, 20)
    poll_until(lambda: trainer.stats().http_failures >= 2)

    service.behaviour = None

    service.wait_for(lambda: service.seqs() == list(range(1, 21)))
    assert service.faults == []
    assert trainer.losses() == {}
    assert trainer.stats().internal_errors == 0


def test_a_request_ends_in_time_however_slowly_the_answer_drips(service, outbound):
    service.behaviour = drip
    trainer = outbound(service.url)

    began = time.monotonic()
    trainer.put(update(1))
    poll_until(lambda: trainer.stats().http_failures == 1)

    assert time.monotonic() - began < 1.5  # total_s is 0.5 here


def test_a_refused_connection_is_tried_again_when_the_service_is_back(service, outbound):
    url = service.url
    service.stop()
    trainer = outbound(url)

    put_all(trainer, 1, 5)

    assert not trainer.flush(0.3)
    assert trainer.stats().http_failures >= 1
    assert trainer.losses() == {}


def test_something_that_speaks_no_tls_is_retried_and_harms_nothing(service, outbound):
    trainer = outbound(service.url.replace("http:", "https:"))

    put_all(trainer, 1, 5)
    poll_until(lambda: trainer.stats().http_failures >= 2)

    assert service.requests == []
    assert trainer.stats().internal_errors == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
@pytest.mark.parametrize("trusted", [True, False])
def test_tls_is_spoken_with_a_service_whose_certificate_is_trusted(
    service, outbound, tmp_path, monkeypatch, trusted
):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *kind, *files, *subject], check=True, capture_output=True)
    service.speak_tls(certificate, key)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trainer = outbound(service.url.replace("http:", "https:"))

    put_all(trainer, 1, 600)

    assert trainer.flush(5 if trusted else 0.3) is trusted
    assert service.seqs() == (list(range(1, 601)) if trusted else [])


def test_two_threads_may_put_at_the_same_time(service, outbound):
    trainer = outbound(service.url, queue_updates=200)
    numbers = itertools.count(1)
    turn = threading.Lock()

    def work():
        for _ in range(1000):
            with turn:
                trainer.put(update(next(numbers)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert trainer.flush(10)
    assert service.seqs() == list(range(1, 2001))
    assert trainer.losses() == {}


def test_updates_whose_answer_was_lost_are_sent_again_and_stored_once(service, outbound):
    service.behaviour = lost_answer
    trainer = outbound(service.url)

    put_all(trainer, 1, 50)

    assert trainer.flush(10)
    assert service.seqs() == list(range(1, 51))
    assert service.faults == []


def test_a_closed_door_warns_once_and_keeps_the_updates(service, outbound):
    service.behaviour = status(401)
    trainer = outbound(service.url)

    # The warning is given in the sender's thread.
    with pytest.warns(RuntimeWarning, match="WATCHSTEP_TOKEN") as seen:  # noqa: PT031 - in a thread
        put_all(trainer, 1, 5)
        poll_until(lambda: trainer.stats().http_failures >= 3)

    assert len(seen) == 1
    assert trainer.stats().queue_len == 5


def test_a_batch_that_is_too_large_is_split(service, outbound):
    def at_most_seven(handler):
        if handler.command == "POST" and len(handler.document["updates"]) > 7:
            handler.answer(413, {"title": "too large"}, PROBLEM)
            return True
        return False

    service.behaviour = at_most_seven
    assert_all_arrive(service, outbound(service.url), 100)


def test_one_update_that_is_refused_for_good_is_replaced_and_counted(service, outbound):
    def dislikes_five(handler):
        liked = all(
            update["seq"] != 5 or "event" in update
            for update in handler.document.get("updates", [])
        )
        if not liked:
            handler.answer(422, {"title": "no"}, PROBLEM)
        return not liked

    service.behaviour = dislikes_five
    trainer = outbound(service.url)

    put_all(trainer, 1, 20)

    assert trainer.flush(10)
    assert service.seqs() == list(range(1, 21))
    assert service.updates()[4]["event"]["text"] == "update dropped by the trainer: refused"
    assert trainer.losses() == {"refused": 1}


def test_updates_that_the_service_rejects_one_by_one_are_counted(service, outbound):
    def rejects_the_second(handler):
        if handler.command == "PUT" or len(handler.document["updates"]) < 2:
            return False
        _, answer = handler.server.service.accept("r", handler.document)
        answer["rejected"] = [{"index": 1, "errors": []}]
        handler.server.service.behaviour = None
        handler.answer(202, answer)
        return True

    service.behaviour = rejects_the_second
    trainer = outbound(service.url)

    put_all(trainer, 1, 20)

    assert trainer.flush(10)
    assert trainer.losses() == {"rejected": 1}


def test_a_service_that_is_further_on_is_believed(service, outbound):
    def says_ten(handler):
        if handler.command == "PUT":
            return False
        for seq in range(1, 11):
            handler.server.service.stored[("r", 1)][seq] = {"seq": seq}
        handler.server.service.behaviour = None
        handler.answer(409, {"title": "behind", "last_seq": 10}, PROBLEM)
        return True

    service.behaviour = says_ten
    trainer = outbound(service.url)

    put_all(trainer, 1, 20)

    assert trainer.flush(10)
    assert service.seqs() == list(range(1, 21))


@pytest.mark.filterwarnings("ignore:watchstep's service turns updates away")
def test_a_service_that_claims_what_was_never_sent_is_not_believed(service, outbound):
    service.behaviour = status(200, b'{"attempt": 1, "last_seq": 900}', "application/json")
    trainer = outbound(service.url)
    put_all(trainer, 1, 5)
    poll_until(lambda: trainer.stats().http_failures >= 2)

    service.behaviour = None

    service.wait_for(lambda: service.seqs() == [1, 2, 3, 4, 5])


def test_a_configuration_that_holds_itself_costs_only_itself(service, outbound):
    config: dict = {"lr": 1.0}
    config["self"] = config

    trainer = outbound(service.url, config=config)
    trainer.put(update(1))

    assert trainer.flush(10)
    assert service.begun[0]["config"] == {}


def test_another_body_for_the_same_number_costs_that_update_alone(service, outbound):
    trainer = outbound(service.url)
    trainer.put(update(1))
    assert trainer.flush(10)
    service.stored[("r", 1)][2] = {"seq": 2, "of": "somebody else"}

    def hides_where_it_is(handler):
        clashes = any(update["seq"] == 2 for update in handler.document.get("updates", []))
        if clashes:
            handler.answer(409, {"title": "conflict"}, PROBLEM)
        elif handler.command == "PUT":
            handler.answer(200, {"attempt": 1, "last_seq": 1, "rules": []})
        return clashes or handler.command == "PUT"

    service.behaviour = hides_where_it_is
    put_all(trainer, 2, 6)

    assert trainer.flush(10)
    assert service.seqs() == [1, 2, 3, 4, 5, 6]
    assert trainer.losses() == {"conflict": 1}


def test_commands_reach_the_trainer_once_and_only_for_its_attempt(service, outbound):
    heard = []
    trainer = outbound(service.url, on_command=heard.append)
    halt = {"id": "1", "kind": "halt", "reason": "x", "attempt": 1}
    service.commands = [halt, halt, {"id": "2", "kind": "halt", "attempt": 7}]

    trainer.put(update(1))
    trainer.flush(10)

    assert heard == [halt]


def test_an_idle_trainer_still_hears_a_halt(service, outbound):
    heard = []
    trainer = outbound(service.url, on_command=heard.append)
    trainer.put(update(1))
    assert trainer.flush(10)

    service.commands = [{"id": "1", "kind": "halt", "reason": "x", "attempt": 1}]

    poll_until(lambda: len(heard) == 1)


def test_a_command_callback_that_raises_does_not_stop_the_sender(service, outbound):
    def careless(command):
        raise KeyError(command["id"])

    trainer = outbound(service.url, on_command=careless)
    service.commands = [{"id": "1", "kind": "halt", "reason": "x", "attempt": 1}]

    put_all(trainer, 1, 3)
    service.wait_for(lambda: service.seqs() == [1, 2, 3])
    trainer.put(update(4))

    service.wait_for(lambda: service.seqs() == [1, 2, 3, 4])
    assert trainer.stats().internal_errors == 1


def test_a_trainer_starting_again_first_sends_what_the_dead_one_left(service, outbound, tmp_path):
    dead = outbound(None)
    put_all(dead, 1, 700)
    dead.close()

    trainer = outbound(service.url)
    put_all(trainer, 1, 10)

    assert trainer.flush(10)
    assert service.seqs(attempt=1) == list(range(1, 701))
    assert service.seqs(attempt=2) == list(range(1, 11))
    assert service.faults == []
    trainer.close()
    assert sessions(tmp_path / "spool") == []


def test_another_run_in_the_same_spool_is_left_for_replay(service, outbound, tmp_path):
    other = outbound(None, run="other")
    put_all(other, 1, 5)
    other.close()
    trainer = outbound(service.url)
    trainer.put(update(1))
    assert trainer.flush(10)

    result = replay(tmp_path / "spool", url=service.url, token=None)

    assert result.sessions == 1
    assert result.live == 1
    assert service.seqs("other") == [1, 2, 3, 4, 5]


def test_closing_takes_no_longer_than_its_budget_before_a_black_hole(service, outbound):
    service.behaviour = black_hole
    trainer = outbound(service.url, exit_s=0.3)
    put_all(trainer, 1, 5)

    began = time.monotonic()
    trainer.close()

    assert time.monotonic() - began < 1.0


def test_a_closed_outbound_ignores_what_is_put(service, outbound, tmp_path: Path):
    trainer = outbound(service.url)
    trainer.put(update(1))
    trainer.close()

    trainer.put(update(2))
    trainer.close()

    assert service.seqs() == [1]
    assert sessions(tmp_path / "spool") == []


def test_a_url_that_is_no_url_gives_one_warning_and_keeps_the_spool(outbound, tmp_path):
    with pytest.warns(RuntimeWarning, match="url"):
        trainer = outbound("not a url")

    trainer.put(update(1))

    assert not trainer.flush(0.1)
    assert len(sessions(tmp_path / "spool")) == 1


def test_a_service_that_lost_its_store_is_told_what_the_run_is_again(service, outbound):
    def resets_once(handler):
        service.behaviour = None
        return reset(handler)

    trainer = outbound(service.url, tags={"team": "a"}, config={"rate": 0.1})
    trainer.put(update(1))
    assert trainer.flush(10)
    service.stored.clear()
    service.attempts.clear()
    service.behaviour = resets_once

    trainer.put(update(2))
    assert trainer.flush(10)

    first, *again = service.begun
    assert again
    assert again[-1] == first
    assert service.seqs()[-1] == 2


def test_updates_that_the_service_refuses_are_warned_of(service, outbound):
    def dislikes_all(handler):
        refused = any("event" not in update for update in handler.document.get("updates", []))
        if refused:
            handler.answer(422, {"title": "no"}, PROBLEM)
        return refused

    service.behaviour = dislikes_all
    trainer = outbound(service.url)
    trainer.put(update(1))

    with pytest.warns(RuntimeWarning, match="the service refuses updates"):
        trainer.flush(10)

    assert trainer.losses() == {"refused": 1}
