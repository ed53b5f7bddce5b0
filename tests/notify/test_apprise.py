"""The bridge to apprise, an optional extra."""

from __future__ import annotations

import sys

import pytest

from notify.kit import ManualClock, MemoryOutbox, config, http_receiver, notice, running
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.service.ports import Dead, Delivered, Retry

# Apprise's plugins use what Python deprecates; that is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def outcome_of_one(url):
    outbox = MemoryOutbox()
    outbox.put("other", notice())
    other = ReceiverConfig("other", "apprise", url)
    manners = config(other, retry_base_s=60.0, timeout_s=15.0)
    with running(Worker(outbox, manners, ManualClock())):
        outbox.until_settled(1)
    return outbox.outcomes()[0]


@pytest.fixture
def _apprise():
    pytest.importorskip("apprise", reason="needs the extra apprise")


@pytest.mark.usefixtures("_apprise")
def test_what_apprise_takes_is_delivered():
    with http_receiver() as server:
        outcome = outcome_of_one(f"json://127.0.0.1:{server.port}/x")

        assert outcome == Delivered()
        assert b"halted at update 1100" in server.requests[0].body


@pytest.mark.usefixtures("_apprise")
def test_what_apprise_cannot_deliver_is_tried_again():
    with http_receiver() as server:
        port = server.port

    outcome = outcome_of_one(f"json://127.0.0.1:{port}/x")

    assert isinstance(outcome, Retry)
    assert outcome.reason == "apprise could not deliver it"


@pytest.mark.usefixtures("_apprise")
def test_an_address_that_apprise_does_not_know_is_dead_and_not_quoted():
    outcome = outcome_of_one("hush://nowhere")

    assert outcome == Dead("apprise does not know this form of address")


def test_without_the_extra_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)

    outcome = outcome_of_one("json://127.0.0.1/x")

    assert outcome == Dead("needs the extra: pip install 'watchstep[apprise]'")


@pytest.mark.usefixtures("_apprise")
@pytest.mark.parametrize(
    "url",
    ["ntfy://topic", "ntfys://host.example/topic", "tgram://123456789:abcdefg_hijklmnop/12315544/",
     "pover://" + "u" * 30 + "@" + "a" * 30],
)  # fmt: skip
def test_the_addresses_that_the_page_names_are_known_to_apprise(url):
    import apprise

    assert apprise.Apprise().add(url)


@pytest.mark.usefixtures("_apprise")
@pytest.mark.parametrize(
    ("kind", "url"),
    [("ntfy", "ntfy://topic"), ("ntfy", "https://ntfy.example/topic"),
     ("telegram", "tgram://123456789:abcdefg_hijklmnop/12315544/"),
     ("pushover", "pover://" + "u" * 30 + "@" + "a" * 30)],
)  # fmt: skip
def test_an_address_of_its_kind_is_one_that_apprise_knows(kind, url):
    import apprise

    receiver = ReceiverConfig("phone", kind, url)

    assert receiver.through_apprise
    assert apprise.Apprise().add(receiver.url)


@pytest.mark.usefixtures("_apprise")
def test_ntfy_is_delivered_through_apprise():
    with http_receiver() as server:
        outbox = MemoryOutbox()
        outbox.put("phone", notice())
        phone = ReceiverConfig("phone", "ntfy", f"ntfy://127.0.0.1:{server.port}/topic")
        manners = config(phone, retry_base_s=60.0, timeout_s=15.0)
        with running(Worker(outbox, manners, ManualClock())):
            outbox.until_settled(1)

        assert outbox.outcomes() == [Delivered()]
        assert b"halted at update 1100" in server.requests[0].body


@pytest.mark.parametrize("kind", ["ntfy", "telegram", "pushover"])
def test_an_address_of_another_kind_is_refused_without_being_quoted(kind):
    with pytest.raises(ValueError, match="must look like") as caught:
        ReceiverConfig("phone", kind, "slack://hidden")

    assert "hidden" not in str(caught.value)
