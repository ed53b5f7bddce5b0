"""Signatures of the webhook, verified with the standard's own library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from notify.kit import ManualClock, MemoryOutbox, config, http_receiver, notice, running
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.notify.signing import signed_headers
from watchstep_monitor.service.clock import SystemClock

OLD = "whsec_" + base64.b64encode(b"the old key of 24 bytes!").decode()
NEW = "whsec_" + base64.b64encode(b"the new key of 24 bytes!").decode()


def test_a_receiver_verifies_what_arrives():
    outbox = MemoryOutbox()
    with http_receiver() as server:
        ops = ReceiverConfig("ops", "webhook", server.url, secret=NEW)
        outbox.put("ops", notice())

        # The machine's time: the library refuses signatures older than five minutes.
        with running(Worker(outbox, config(ops), SystemClock())):
            outbox.until_settled(1)

        request = server.requests[0]
    verified = Webhook(NEW).verify(request.body, dict(request.headers))
    assert verified["watchstep"]["run"] == "ppo-7"


def test_while_keys_are_rotated_either_one_verifies():
    body = json.dumps({"a": 1})

    headers = signed_headers("nt-1", body, f"{NEW} {OLD}", datetime.now(UTC))

    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(body, dict(headers)) == {"a": 1}
    stranger = "whsec_" + base64.b64encode(b"somebody else's key").decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(stranger).verify(body, dict(headers))


@pytest.mark.parametrize("secret", ["topsecret", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaSLsw", "pass-wörd"])
def test_a_plain_secret_verifies_as_its_own_bytes(secret):
    at = datetime.now(UTC)

    headers = signed_headers("nt-1", "{}", secret, at)

    signed = f"nt-1.{int(at.timestamp())}.{{}}".encode()
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    assert f"v1,{base64.b64encode(digest).decode()}" in headers["webhook-signature"].split(" ")


def test_a_plain_secret_that_is_base64_verifies_in_the_library_too():
    secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaSLsw"

    headers = signed_headers("nt-1", "{}", secret, datetime.now(UTC))

    assert Webhook(secret).verify("{}", dict(headers)) == {}


def test_the_id_stays_and_the_timestamp_moves_from_one_attempt_to_the_next():
    first = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)

    earlier = signed_headers("nt-1", "{}", NEW, first)
    later = signed_headers("nt-1", "{}", NEW, first + timedelta(minutes=7))

    assert earlier["webhook-id"] == later["webhook-id"] == "nt-1"
    assert int(later["webhook-timestamp"]) - int(earlier["webhook-timestamp"]) == 420
    assert earlier["webhook-signature"] != later["webhook-signature"]


def test_a_clock_in_another_time_zone_signs_the_same():
    at = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
    elsewhere = at.astimezone(timezone(timedelta(hours=9)))

    assert signed_headers("n", "{}", NEW, at) == signed_headers("n", "{}", NEW, elsewhere)


def test_without_a_secret_there_is_an_id_but_no_signature():
    headers = signed_headers("nt-1", "{}", "", ManualClock().now())

    assert set(headers) == {"webhook-id", "webhook-timestamp"}
