"""What each kind of receiver is sent."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from notify.kit import START, alert, notice, receiver
from watchstep_monitor.notify.dispatch import _RENDERERS as KINDS
from watchstep_monitor.notify.render import (
    email_message,
    plain_text,
    slack,
)
from watchstep_monitor.notify.render.wording import weight, worded
from watchstep_monitor.notify.worker import notice_for_test

HOSTILE = "<!channel> @everyone & [x](http://evil) \ud800 \x00\r\nBcc: a@b.c \u202e`*_~|" * 40


def sent(kind, message):
    """The body, read as strictly as any receiver may read it."""

    def refuse(token):
        raise AssertionError(f"bare {token} in the body")

    return json.loads(KINDS[kind](message, receiver(kind)).encode(), parse_constant=refuse)


def hostile_notice():
    bad = alert(
        rule=HOSTILE,
        run=HOSTILE,
        project=HOSTILE,
        summary=HOSTILE,
        reason=HOSTILE,
        cause=HOSTILE,
        metric=HOSTILE,
        reading=-math.inf,
        runbook_url="javascript:alert(1)",
    )
    return notice(
        run=HOSTILE,
        project=HOSTILE,
        incident=HOSTILE,
        stage=HOSTILE,
        diagnosis=HOSTILE,
        confidence=math.nan,
        alerts=(bad,) * 60,
        readings={f"{HOSTILE}{n}": math.nan for n in range(40)},
        checkpoint={"path": HOSTILE, "step": None, "sha256": None, "odd": math.inf},
        trainer_did=HOSTILE,
        links={HOSTILE: "https://x.example.org/<!channel>|a", "run": "https://ok.example.org/"},
    )


def texts(value):
    """Every string in a body."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def test_a_person_learns_what_since_when_how_sure_what_was_done_and_what_to_do():
    text = plain_text.body(notice(at=START + timedelta(minutes=3)))

    assert "statistics of other data" in text
    assert "update 1,098, 2026-11-23 04:11:05 UTC (3 min ago)" in text
    assert "85 % sure" in text
    assert "halted at update 1100" in text
    assert "ckpt/step-1097.pt, sha256 abababababab…" in text
    assert "remove the cause, then start again; watch.restore()" in text
    assert "train/policy_loss = NaN" in text
    assert "https://watch.example.org/runs/ppo-7" in text
    assert len(text) < 1500


def test_what_is_most_often_so_is_not_said_to_be_sure():
    guess = "The process was killed, most often for want of memory"

    text = plain_text.body(notice(diagnosis=guess, confidence=1.0))

    assert f"Likely cause: {guess}\n" in text


def test_without_a_pin_nobody_is_told_to_restore_it():
    text = plain_text.body(notice(checkpoint=None, trainer_did="", status="running"))

    assert "none is pinned" in text
    assert "watch.restore" not in text
    assert "AdvantagesBeyondBound asks for a halt; none has been reported" in text
    assert "watchstep halt ppo-7" in text


def test_a_warning_does_not_ask_anybody_to_stop_anything():
    mild = alert(severity="warning", action="none")

    words = dict(
        worded(notice(alerts=(mild,), trainer_did="", checkpoint=None, status="running")).points
    )

    assert words["Do"] == "look at the readings when you can; nothing has to stop yet"
    assert words["Trainer"] == "was not asked to do anything"


def test_an_incident_whose_critical_alert_resolved_is_a_warning_until_it_is_over():
    over = alert(state="resolved", resolved_at=START)
    mild = alert(id="al-2", rule="Slow", severity="warning")

    changed = notice(edge="changed", alerts=(mild, over), status="diverged")
    resolved = notice(edge="resolved", alerts=(over,))

    assert weight(changed) == "warning"
    assert weight(resolved) == "critical"
    assert worded(changed).footer.startswith("warning · ")


def test_a_silenced_alert_does_not_head_the_message():
    quiet = alert(silenced=True)
    loud = alert(id="al-2", summary="The heard one.", severity="warning")

    assert "the heard one" in worded(notice(alerts=(quiet, loud))).title


NAN = alert(rule="LossNonFinite", metric="train/loss", reading=math.nan)
EVENT = alert(rule="TrainerFailed", metric="", summary="The trainer died of an exception.")
HUNG = {"since_s": 720.0, "innermost": "train.py:212 all_reduce", "moving": False}


@pytest.mark.parametrize(
    ("title", "fields"),
    [
        ("r: train/loss is NaN since step 2,137, halted", {"alerts": (NAN,), "first_step": 2137}),
        (
            "r: train/loss is infinite",
            {"alerts": (replace(NAN, reading=-math.inf),), "status": "running"},
        ),
        (
            "r: CUDA out of memory at step 12,300",
            {"alerts": (EVENT,), "status": "failed", "oom": "device", "last_step": 12_300},
        ),
        (
            "r: ValueError: bad shape at step 7",
            {
                "alerts": (EVENT, NAN)[:1],
                "status": "failed",
                "error": "ValueError: bad shape\nmore",
                "last_step": 7,
            },
        ),
        (
            "r: no update for 12 min, hangs in all_reduce (train.py:212)",
            {"alerts": (EVENT,), "status": "stalled", "hung": HUNG},
        ),
        (
            "r: no update for 12 min, hangs in all_reduce (train.py:40)",
            {
                "alerts": (EVENT,),
                "status": "stalled",
                "hung": {
                    **HUNG,
                    "innermost": "distributed_c10d.py:2810 all_reduce",
                    "own_line": "train.py:40 main",
                },
            },
        ),
        (
            "Still open, r: no update for 2 h 0 min, hangs in all_reduce (train.py:212)",
            {
                "alerts": (EVENT,),
                "status": "stalled",
                "hung": HUNG,
                "edge": "repeat",
                "at": START + timedelta(hours=2),
            },
        ),
        (
            "r: nothing heard for 5 min, last at step 90",
            {
                "alerts": (EVENT,),
                "status": "lost",
                "heard_at": START - timedelta(minutes=5),
                "last_step": 90,
            },
        ),
        (
            "r: no output and no change of a file for 12 min, in the kernel's futex_wait",
            {
                "alerts": (EVENT,),
                "status": "stalled",
                "hung": {
                    **HUNG,
                    "innermost": "the kernel's futex_wait",
                    "seen": "no output and no change of a file",
                },
            },
        ),
        (
            "Resolved, r: the KL is large, since step 5; the run failed",
            {
                "alerts": (alert(summary="The KL is large.", state="resolved"),),
                "edge": "resolved",
                "first_step": 5,
                "status": "failed",
                "error": "ValueError: bad shape",
                "last_step": 7,
            },
        ),
        (
            "r: train/loss is NaN since step 4,480 (update 9)",
            {"alerts": (NAN,), "first_step": 4480, "first_update": 9, "status": "running"},
        ),
        (
            "r: train/loss is NaN since step 9",
            {"alerts": (NAN,), "first_step": 9, "first_update": 9, "status": "running"},
        ),
        ("r: preempted at step 90", {"alerts": (), "edge": "preempted", "last_step": 90}),
        ("r: finished at step 90", {"alerts": (), "edge": "finished", "last_step": 90}),
        (
            "Warning, r: the KL is large, since step 5",
            {
                "alerts": (alert(severity="warning", summary="The KL is large."),),
                "first_step": 5,
                "status": "running",
            },
        ),
    ],
)
def test_a_title_says_what_a_colleague_would_say(title, fields):
    assert worded(notice(run="r", **fields)).title == title


def test_a_death_comes_with_the_end_of_its_traceback_where_it_ran_and_what_helps():
    trace = "Traceback (most recent call last):\n" + "\n".join(f"  line {n}" for n in range(20))
    died = notice(
        alerts=(EVENT,), status="failed", oom="host", traceback=trace, host="gpu-12", user="ann"
    )

    words = worded(died)

    points = dict(words.points)
    assert points["Where"] == "host gpu-12, user ann"
    assert points["Do"].startswith("give the job more memory")
    assert words.traceback[-1] == "  line 19"
    assert len(words.traceback) == 8
    for kind, body in KINDS.items():
        if kind not in {"alertmanager", "webhook"}:
            assert "line 19" in body(died, receiver(kind))


def test_a_hang_is_told_from_when_it_began_and_not_from_when_it_was_told():
    words = dict(worded(notice(alerts=(EVENT,), status="stalled", hung=HUNG)).points)

    assert words["Since"].endswith("2026-11-23 03:59:05 UTC (12 min ago)")


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"ended_by": "exception"}, "read the trainer's error"),
        ({"ended_by": "kill"}, "find out what killed it"),
        ({"ended_by": "signal"}, "look at its last lines and for a core dump"),
        ({"ended_by": "exit"}, "see its last lines"),
        ({"ended_by": "start"}, "mend the command"),
        ({"ended_by": "kill", "oom": "host"}, "give the job more memory"),
        ({"ended_by": "of a later version"}, "read the trainer's error"),
    ],
)
def test_the_advice_after_a_death_is_about_what_is_known_of_it(fields, advice):
    died = notice(alerts=(EVENT,), status="failed", **fields)

    assert dict(worded(died).points)["Do"].startswith(advice)


@pytest.mark.parametrize(
    ("innermost", "advice"),
    [("the kernel's futex_wait", "see in the run's timeline what"), ("", "see whether it goes on")],
)
def test_a_hang_seen_from_outside_sends_nobody_to_stacks_that_are_not_there(innermost, advice):
    hung = {**HUNG, "innermost": innermost, "seen": "no output"}

    words = dict(worded(notice(alerts=(EVENT,), status="stalled", hung=hung)).points)

    assert words["Do"].startswith(advice)


def test_a_resolved_message_does_not_say_that_a_reading_is_well_which_nobody_knows():
    fell = alert(metric="train/reward", reading=17.5, state="resolved")
    over = notice(
        edge="resolved", status="running", alerts=(fell,), readings={"train/reward": 17.25}
    )

    advice = dict(worded(over).points)["Do"]

    assert advice.startswith("see that it is over: train/reward was 17.5 then and is 17.25 now")


def test_a_resolved_message_of_a_run_that_ended_badly_says_what_is_to_be_done():
    over = notice(edge="resolved", status="failed", alerts=(replace(EVENT, state="resolved"),))

    assert dict(worded(over).points)["Do"].startswith("read the trainer's error")


def test_the_words_of_a_death_stand_in_the_message_once():
    error = "torch.OutOfMemoryError: CUDA out of memory."
    died = notice(
        alerts=(EVENT,),
        status="failed",
        error=error,
        diagnosis=f"The trainer died: {error}",
        trainer_did=f"died at update 41: {error}",
    )

    points = dict(worded(died).points)

    assert error.rstrip(".") in points["What"]
    assert points["Trainer"] == "died at update 41"
    assert "Likely cause" not in points


def test_a_message_shows_the_reading_that_its_alert_is_about():
    climbs = alert(metric="train/grad_norm", reading=4860.0)
    began = alert(id="al-2", metric="train/grad_norm", reading=20.0, severity="info")

    words = worded(notice(alerts=(climbs, began), readings={"train/grad_norm": 9e9}))

    assert words.readings[0] == ("train/grad_norm", "4860")


def test_mere_information_is_neither_counted_in_the_title_nor_the_beginning():
    early = alert(id="al-2", severity="info", first_update=1_000, since=START - timedelta(hours=1))

    words = worded(notice(run="r", alerts=(NAN, early), status="running"))

    assert words.title == "r: train/loss is NaN"
    assert dict(words.points)["Since"].startswith("update 1,098, 2026-11-23 04:11:05 UTC")
    assert "Also" not in dict(words.points)["What"]


def test_a_message_links_to_pages_and_to_what_can_be_done_and_to_no_json():
    links = {
        "run": "https://w.example.org/runs/r",
        "status": "https://w.example.org/api/v1/runs/r",
        "Acknowledge": "https://w.example.org/act/r/in_1/acknowledge/1/ab",
    }

    assert [name for name, _ in worded(notice(links=links)).links] == [
        *("run", "runbook", "Acknowledge")
    ]


@pytest.mark.parametrize("edge", ["opened", "changed", "resolved", "repeat", "test"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_renders_every_edge(kind, edge):
    assert sent(kind, notice(edge=edge))
    assert sent(kind, replace(notice_for_test(START), edge=edge))
    if kind != "alertmanager":
        assert sent(kind, notice(edge=edge, alerts=(), readings={}, links={}))


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_is_still_strict_json_in_bounds(kind):
    body = KINDS[kind](hostile_notice(), receiver(kind))

    assert len(body.encode()) < 512_000
    for text in texts(sent(kind, hostile_notice())):
        assert not re.search("[\x00-\x09\x0b-\x1f\ud800-\udfff\u202e]", text)


def test_the_webhook_is_alertmanagers_version_4_and_ours_beside_it():
    over = alert(id="al-2", rule="Slow", state="resolved", resolved_at=START, severity="warning")

    body = sent("webhook", notice(alerts=(alert(), over)))

    assert body["version"] == "4"
    assert body["status"] == "firing"
    assert body["receiver"] == "ops"
    assert body["truncatedAlerts"] == 0
    assert body["groupKey"] == '{}:{incident="inc-1"}'
    assert body["groupLabels"] == {"project": "trading", "run": "ppo-7"}
    assert body["commonLabels"] == {"project": "trading", "run": "ppo-7"}
    first, second = body["alerts"]
    assert first["labels"] == {
        "alertname": "AdvantagesBeyondBound",
        "run": "ppo-7",
        "project": "trading",
        "severity": "critical",
    }
    assert (first["status"], first["endsAt"]) == ("firing", "0001-01-01T00:00:00Z")
    assert (second["status"], second["endsAt"]) == ("resolved", "2026-11-23T04:11:05Z")
    assert re.fullmatch("[0-9a-f]{16}", first["fingerprint"])
    assert first["annotations"]["reading"] == "18500"
    ours = body["watchstep"]
    assert (ours["run"], ours["attempt"], ours["incident"]) == ("ppo-7", 1, "inc-1")
    assert (ours["stage"], ours["confidence"]) == ("explosion", 0.85)
    assert ours["diagnosis"].startswith("The standard deviation")
    assert ours["readings"] == {
        "train/advantages_norm_max_abs": 18500.0,
        "train/policy_loss": "NaN",
    }
    assert ours["checkpoint"]["step"] == 1097
    assert ours["links"]["run"] == "https://watch.example.org/runs/ppo-7"


def test_an_alert_keeps_its_fingerprint_over_time_and_attempts():
    first = sent("webhook", notice())["alerts"][0]["fingerprint"]
    later = alert(attempt=2, id="al-9", last_update=9, state="resolved", resolved_at=START)

    assert sent("webhook", notice(alerts=(later,)))["alerts"][0]["fingerprint"] == first
    other = sent("webhook", notice(alerts=(alert(run="ppo-8"),)))
    assert other["alerts"][0]["fingerprint"] != first


def test_the_webhook_says_how_many_alerts_it_left_out():
    body = sent("webhook", notice(alerts=(alert(),) * 45))

    assert (len(body["alerts"]), body["truncatedAlerts"]) == (30, 15)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_readings_cross_the_wire_as_their_names(value):
    message = notice(readings={"loss": value}, alerts=(alert(metric="loss", reading=value),))

    body = sent("webhook", message)

    name = {True: "NaN"}.get(math.isnan(value)) or ("Infinity" if value > 0 else "-Infinity")
    assert body["watchstep"]["readings"] == {"loss": name}
    assert body["alerts"][0]["annotations"]["reading"] == name
    assert f"loss = {name}" in plain_text.body(message)


def test_alertmanager_gets_an_end_far_off_while_it_fires_and_the_end_after():
    over = alert(id="al-2", state="resolved", resolved_at=START + timedelta(minutes=2))

    firing, resolved = sent("alertmanager", notice(alerts=(alert(), over)))

    assert firing["startsAt"] == "2026-11-23T04:11:05Z"
    assert firing["endsAt"] == "2026-11-24T04:11:05Z"
    assert resolved["endsAt"] == "2026-11-23T04:13:05Z"
    assert firing["labels"]["run"] == "ppo-7"


def test_alertmanager_is_never_given_an_end_before_the_start_or_an_empty_label():
    odd = alert(project="", state="resolved", since=START, resolved_at=START - timedelta(seconds=5))

    (entry,) = sent("alertmanager", notice(alerts=(odd,), project=""))

    assert entry["endsAt"] == entry["startsAt"]
    assert "project" not in entry["labels"]


def test_slack_escapes_its_control_characters_everywhere_and_keeps_its_limits():
    body = sent("slack", hostile_notice())

    for text in texts(body):
        without_links = re.sub(r"<https://[^<>|]+\|[^<>|]*>", "", text)
        assert "<" not in without_links
        assert ">" not in without_links
        assert not re.search(r"&(?!amp;|lt;|gt;)", without_links)
    header, *rest = body["blocks"]
    assert len(header["text"]["text"]) <= 150
    assert len(body["blocks"]) <= 50
    for block in rest:
        assert len(block.get("fields", ())) <= 10
        assert len(block.get("elements", ())) <= 10
        if "text" in block:
            assert len(block["text"]["text"]) <= 3000
        for field in block.get("fields", ()):
            assert len(field["text"]) <= 2000


def test_slack_never_cuts_an_entity_in_two():
    for length in range(5, 40):
        assert re.fullmatch(r"(&amp;|&lt;)*…?", slack.escaped("&<" * 20, length))


def test_slack_shows_what_happened_without_opening_anything():
    body = sent("slack", notice())

    assert body["text"] == worded(notice()).title
    assert body["blocks"][0]["type"] == "header"
    assert body["blocks"][1]["text"]["text"].count("\n") == 5
    assert "*Trainer*  halted at update 1100" in body["blocks"][1]["text"]["text"]
    assert "<https://watch.example.org/runs/ppo-7|run>" in body["blocks"][-1]["elements"][1]["text"]


def test_discord_rings_nobody_and_keeps_its_limits():
    body = sent("discord", hostile_notice())

    assert body["allowed_mentions"] == {"parse": []}
    (embed,) = body["embeds"]
    assert len(embed["title"]) <= 256
    assert len(embed["description"]) <= 4096
    assert len(embed["fields"]) <= 25
    for field in embed["fields"]:
        assert len(field["name"]) <= 256
        assert len(field["value"]) <= 1024
    shown = [embed["title"], embed["description"], embed["footer"]["text"]]
    shown += [field["name"] + field["value"] for field in embed["fields"]]
    assert sum(map(len, shown)) <= 6000
    assert re.search(r"(?<!\\)\[x", embed["description"]) is None


def test_github_mentions_nobody_and_makes_no_markup_of_names():
    body = sent("github", hostile_notice())["body"]

    assert not re.search(r"@\w", body)
    assert "[x](http" not in body
    assert len(body) < 65_536


def test_teams_gets_a_card_whose_texts_read_no_markdown():
    body = sent("teams", hostile_notice())

    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert card["type"] == "AdaptiveCard"
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}
    assert [action["url"] for action in card["actions"]] == ["https://ok.example.org/"]
    # Teams refuses messages above 28 kB.
    assert len(json.dumps(body)) < 28_000


def test_pagerduty_opens_and_resolves_one_incident_under_one_key():
    opened, changed, over = (
        sent("pagerduty", notice(edge=edge)) for edge in ("opened", "changed", "resolved")
    )

    assert [each["event_action"] for each in (opened, changed, over)] == [
        *("trigger", "trigger", "resolve")
    ]
    assert {each["dedup_key"] for each in (opened, changed, over)} == {"inc-1"}
    assert opened["routing_key"] == "ROUTING-KEY"
    assert opened["payload"]["severity"] == "critical"
    assert len(sent("pagerduty", hostile_notice())["payload"]["summary"]) <= 1024
    assert len(sent("pagerduty", hostile_notice())["dedup_key"]) <= 255


def test_a_mail_has_text_and_html_and_stays_in_its_thread():
    opened = email_message.message(notice(), receiver("email", "ann@example.org,bo@example.org"))
    over = email_message.message(notice(id="nt-2", edge="resolved"), receiver("email"))

    text = opened.get_body(("plain",)).get_content()
    html = opened.get_body(("html",)).get_content()
    assert "halted at update 1100" in text
    assert "halted at update 1100" in html
    assert opened["To"] == "ann@example.org, bo@example.org"
    assert opened["Message-ID"] != over["Message-ID"]
    assert opened["References"] == over["References"]
    assert opened["Auto-Submitted"] == "auto-generated"


def test_a_hostile_name_forges_no_mail_header_and_no_html():
    mail = email_message.message(hostile_notice(), receiver("email"))

    raw = mail.as_bytes().split(b"\n\n", 1)[0]
    assert b"\nBcc:" not in raw
    assert "<!channel>" not in mail.get_body(("html",)).get_content()
    assert "javascript:" not in mail.get_body(("html",)).get_content()


def test_only_plain_web_addresses_become_links():
    odd = ["javascript:alert(1)", "https://a.example.org/ b", "ftp://a", "https://a|b", ""]

    words = worded(notice(links={f"l{n}": url for n, url in enumerate(odd)}))

    assert [name for name, _ in words.links] == ["runbook"]
