"""Updates cross the wire and the disk unchanged, or are refused with the field that is wrong."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sender.rows import decode_rows
from watchstep.core.updates import Update
from watchstep.errors import WireError
from watchstep.wire.packed import Packer, Record, Unpacker, scan, seq_of
from watchstep.wire.rows import Parcel, encode_rows
from watchstep.wire.text import decode_update, encode_batch, encode_update, event_to_json

NAMES = st.from_regex(r"[A-Za-z0-9_./:-]{1,20}", fullmatch=True)
EVENTS = st.none() | st.builds(lambda text: {"kind": "log", "text": text}, st.text(max_size=20))


@st.composite
def updates(draw):
    readings = draw(st.dictionaries(NAMES, st.floats(), max_size=8))
    return Update(
        seq=draw(st.integers(1, 2**63 - 1)),
        step=draw(st.integers(0, 2**63 - 1)),
        time=draw(st.floats(min_value=-6e10, max_value=2.5e11)),
        readings=readings,
        event=draw(EVENTS),
        attempt=3,
    )


def same(left, right):
    def bits(update):
        return {name: repr(value) for name, value in update.readings.items()}

    return bits(left) == bits(right) and (left.seq, left.step, left.time, left.event) == (
        right.seq,
        right.step,
        right.time,
        right.event,
    )


@given(updates())
def test_any_update_survives_json(update):
    encoded = encode_update(update)

    assert same(decode_update(json.loads(encoded), 3), update)


@given(st.lists(updates(), max_size=5))
def test_any_update_survives_packing_and_reads_as_the_same_json(several):
    packer, unpacker = Packer(), Unpacker()
    data = b""
    for update in several:
        framed, names = packer.pack(update)
        data += names + framed

    read = []
    for frame in scan(data):
        unpacker.learn(frame)
        if frame.kind == 3:
            read.append(unpacker.to_json(frame.framed))

    assert read == [encode_update(update) for update in several]


@given(updates(), st.data())
def test_a_flipped_bit_is_never_read_as_an_update(update, data):
    framed, _ = Packer().pack(update)
    damaged = bytearray(framed)
    damaged[data.draw(st.integers(0, len(framed) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    assert all(frame.payload != framed[12:] or frame.kind != 3 for frame in scan(bytes(damaged)))


@given(st.lists(updates(), max_size=6, unique_by=lambda update: update.seq))
def test_any_updates_survive_rows(several):
    packer, unpacker = Packer(), Unpacker()
    parcels = []
    for update in several:
        framed, names = packer.pack(update)
        for frame in scan(names):
            unpacker.learn(frame)
        parcels += unpacker.parcels([Record(update.seq, framed)])

    attempt, read = decode_rows(encode_rows(3, parcels))

    assert attempt == 3
    assert [encode_update(frame) for frame in read] == [encode_update(u) for u in several]


ROW = Parcel(1, struct.pack("<Qqdd", 1, 0, 1.0, math.nan), b"a")
JSON = Parcel(2, b'{"seq":2,"step":0,"time":1.0,"metrics":{}}')


@pytest.mark.parametrize("size", range(len(encode_rows(1, [ROW, JSON]))))
def test_rows_that_are_cut_short_are_refused_or_end_between_two_blocks(size):
    body = encode_rows(1, [ROW, JSON])
    ends_of_blocks = {len(encode_rows(1, some)) for some in ([], [ROW])}

    if size in ends_of_blocks:
        decode_rows(body[:size])
    else:
        with pytest.raises(WireError):
            decode_rows(body[:size])


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel(0, struct.pack("<Qqd", 0, 0, 1.0), b""),
        Parcel(1, struct.pack("<Qqd", 1, -1, 1.0), b""),
        Parcel(1, struct.pack("<Qqd", 1, 0, math.inf), b""),
        Parcel(1, struct.pack("<Qqdd", 1, 0, 1.0, 1.0), b"a b"),
        Parcel(1, struct.pack("<Qqddd", 1, 0, 1.0, 1.0, 1.0), b"a\na"),
        Parcel(1, struct.pack("<Qqdd", 1, 0, 1.0, 1.0), b"\xff"),
    ],
    ids=["seq", "step", "time", "name", "twice", "ascii"],
)
def test_rows_with_illegal_content_are_refused(parcel):
    with pytest.raises(WireError):
        decode_rows(encode_rows(1, [parcel]))


def test_a_trainer_that_never_repeats_its_names_is_still_packed():
    packer, unpacker = Packer(), Unpacker()
    several = [Update(seq, 0, 1.0, {f"m{seq}": 1.0}) for seq in range(1, 600)]

    read = []
    for update in several:
        framed, names = packer.pack(update)
        for frame in scan(names + framed):
            unpacker.learn(frame)
        read.append(unpacker.to_json(framed))

    assert read == [encode_update(update) for update in several]
    assert [seq_of(frame.framed) for frame in scan(framed)] == [599]


def test_a_table_of_names_is_introduced_although_its_first_update_was_refused():
    packer = Packer()
    with pytest.raises(WireError):
        packer.pack(Update(1, 0, 1.0, {"a": "text"}))

    _, names = packer.pack(Update(2, 0, 1.0, {"a": 1.0}))

    assert names != b""


@pytest.mark.parametrize("bare", ["NaN", "Infinity", "-Infinity"])
def test_bare_words_are_understood_and_never_written(bare):
    body = b'{"seq":1,"step":0,"time":1,"metrics":{"a":%b}}' % bare.encode()

    update = decode_update(json.loads(body), 1)

    assert not math.isfinite(update.readings["a"])
    assert json.loads(encode_update(update))["metrics"] == {"a": bare}


def test_integers_become_floats_on_both_ways():
    update = decode_update({"seq": 1, "step": 0, "time": 1, "metrics": {"a": 5}}, 1)

    assert type(update.readings["a"]) is float
    assert encode_update(Update(1, 0, 1.0, {"a": 5})).endswith(b'{"a":5.0}}')


GOOD = {"seq": 1, "step": 0, "time": 1.0, "metrics": {"a": 1.0}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seq": 0}, "seq"),
        ({"seq": True}, "seq"),
        ({"seq": 1.0}, "seq"),
        ({"seq": 2**63}, "seq"),
        ({"step": -1}, "step"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-23T04:00:00"}, "time"),
        ({"time": math.nan}, "time"),
        ({"time": 10**400}, "time"),
        ({"time": None}, "time"),
        ({"metrics": [1]}, "metrics"),
        ({"metrics": {"a b": 1.0}}, "metrics"),
        ({"metrics": {"a\n": 1.0}}, "metrics"),
        ({"metrics": {"": 1.0}}, "metrics"),
        ({"metrics": {"a" * 129: 1.0}}, "metrics"),
        ({"metrics": {"a": True}}, "metrics.a"),
        ({"metrics": {"a": None}}, "metrics.a"),
        ({"metrics": {"a": "1.0"}}, "metrics.a"),
        ({"metrics": {"a": "nan"}}, "metrics.a"),
        ({"metrics": {"a": [1.0]}}, "metrics.a"),
        ({"metrics": {"a": 10**400}}, "metrics.a"),
        ({"event": {"kind": "party"}}, "event.kind"),
        ({"event": []}, "event"),
        ({"extra": 1}, "update"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field(change, field):
    with pytest.raises(WireError, match=f"^{field}: "):
        decode_update({**GOOD, **change}, 1)


@pytest.mark.parametrize("field", ["seq", "step", "time", "metrics"])
def test_a_missing_field_is_named(field):
    with pytest.raises(WireError, match=f"^{field}: is missing"):
        decode_update({name: value for name, value in GOOD.items() if name != field}, 1)


def test_a_moment_in_rfc_3339_is_understood():
    update = decode_update({**GOOD, "time": "1970-01-01T01:00:00.5+01:00"}, 1)

    assert update.time == 0.5


@pytest.mark.parametrize("value", [True, None, "1", 10**400])
def test_a_reading_that_is_no_number_is_not_encoded(value):
    with pytest.raises(WireError, match=r"^metrics\.a: "):
        encode_update(Update(1, 0, 1.0, {"a": value}))


def test_events_hold_what_users_put_into_them():
    class Strange:
        def __str__(self):
            return "strange"

    event = {"kind": "log", "n": math.inf, "deep": [{"x": math.nan}], "o": Strange(), "t": (1,)}

    document = json.loads(event_to_json(event))

    assert document == {
        "kind": "log",
        "n": "Infinity",
        "deep": [{"x": "NaN"}],
        "o": "strange",
        "t": [1],
    }


def test_an_event_that_holds_itself_is_refused():
    event: dict = {"kind": "log"}
    event["self"] = event

    with pytest.raises(WireError, match=r"^event: "):
        event_to_json(event)


def test_a_batch_holds_its_attempt_and_its_updates():
    update = Update(1, 2, 3.0, {"a": 1.0})

    body = encode_batch(7, [update, encode_update(update)])

    expected = {"seq": 1, "step": 2, "time": 3.0, "metrics": {"a": 1.0}}
    assert json.loads(body) == {"attempt": 7, "updates": [expected, expected]}
