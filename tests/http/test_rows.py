"""Updates as rows of doubles: the same as the same updates in JSON, only smaller."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from service.http_kit import Answer, Client, upd
from watchstep.core.updates import Update
from watchstep.wire.rows import ROWS_TYPE, Parcel, encode_rows
from watchstep.wire.text import encode_update

HEAD = struct.pack("<4sQ", b"WSR1", 1)


def row(
    seq: int, step: int | None = None, time: float = 1_700_000_000.5, **readings: float
) -> Parcel:
    names = "\n".join(name.replace("__", "/") for name in readings).encode()
    place = (seq, seq * 10 if step is None else step, time + seq)
    return Parcel(seq, struct.pack(f"<Qqd{len(readings)}d", *place, *readings.values()), names)


def told(seq: int, **event: Any) -> Parcel:
    return Parcel(seq, encode_update(Update(seq, seq * 10, 1.0, {}, event)))


def post(client: Client, run: str, body: bytes) -> Answer:
    return client.ask("POST", f"/api/v1/runs/{run}/updates", body, {"Content-Type": ROWS_TYPE})


def test_a_trainer_is_told_that_rows_are_taken(client: Client) -> None:
    assert client.ask("PUT", "/api/v1/runs/rows0", {}).json["accepts"] == [ROWS_TYPE]


def test_rows_are_stored_and_judged_like_json(client: Client) -> None:
    body = encode_rows(
        1,
        [
            row(1, train__loss=1.0, train__grad_norm=-0.0),
            told(2, kind="log", text="hello"),
            row(3, train__loss=math.nan),
        ],
    )

    sent = post(client, "rows1", body)

    assert (sent.status, sent.json["accepted"], sent.json["last_seq"]) == (202, 3, 3)
    points = client.get("/runs/rows1/series?metric=train/loss").json["points"]
    assert [(point["seq"], point["step"], point["value"]) for point in points] == [
        (1, 10, 1.0),
        (3, 30, "NaN"),
    ]
    firing = client.get("/alerts?run=rows1&state=firing").json["items"]
    assert {alert["rule"] for alert in firing} >= {"LossGone"}


def test_the_same_update_in_the_other_form_is_a_duplicate_and_another_one_a_conflict(
    client: Client,
) -> None:
    as_json = [upd(1, a=0.1, b="NaN"), upd(2, a=5, b="-Infinity")]
    as_rows = [row(1, a=0.1, b=math.nan), row(2, a=5.0, b=-math.inf)]
    client.send("rows2", *as_json)
    post(client, "rows3", encode_rows(1, as_rows))

    assert post(client, "rows2", encode_rows(1, as_rows)).json["duplicates"] == 2
    assert client.send("rows3", *as_json).json["duplicates"] == 2
    assert post(client, "rows2", encode_rows(1, [row(2, a=6.0, b=1.0)])).status == 409


def test_one_bad_row_among_good_ones_is_rejected_by_itself(client: Client) -> None:
    parcels = [
        row(1, a=1.0),
        row(0, a=1.0),
        row(3, time=math.nan, a=1.0),
        row(4, step=2**60, a=1.0),
        told(5, kind="log"),
        Parcel(6, b'{"seq":6,"step":1,"time":1,"event":{"kind":"nonsense"}}'),
        row(7, a=1.0),
    ]

    sent = post(client, "rows4", encode_rows(1, parcels))

    assert sent.status == 202
    assert (sent.json["accepted"], sent.json["last_seq"]) == (3, 7)
    assert [each["index"] for each in sent.json["rejected"]] == [1, 2, 3, 5]


def test_rows_wider_than_an_update_may_be_are_cut(client: Client) -> None:
    sent = post(client, "wide-rows", encode_rows(1, [row(1, **{f"m{n}": 1.0 for n in range(257)})]))

    assert (sent.status, sent.json["accepted"], sent.json["left_out"]) == (202, 1, 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"WSR1", 400),
        (HEAD[:-1], 400),
        (b"NOPE" + HEAD[4:], 400),
        (HEAD + b"\x09\x00\x00\x00\x00", 400),
        (HEAD + struct.pack("<BI", 1, 1), 400),
        (HEAD + struct.pack("<BII", 1, 1, 1) + b"a" + b"\0" * 31, 400),
        (HEAD + struct.pack("<BII", 1, 1, 2**31), 400),
        (HEAD + struct.pack("<BI", 2, 4) + b"{}", 400),
        (HEAD + struct.pack("<BI", 2, 2) + b"{]", 400),
        (HEAD + struct.pack("<BI", 2, 13) + b'{"a":1,"a":2}', 400),
        (HEAD + struct.pack("<BI", 2, 2) + b"{}", 422),
        (encode_rows(0, [row(1, a=1.0)]), 422),
        (encode_rows(2**40, [row(1, a=1.0)]), 422),
        (encode_rows(1, [Parcel(1, struct.pack("<Qqd2d", 1, 1, 1.0, 1.0, 1.0), b"a\na")]), 422),
        (encode_rows(1, [Parcel(1, struct.pack("<Qqdd", 1, 1, 1.0, 1.0), b"a b")]), 422),
        (encode_rows(1, [Parcel(1, struct.pack("<Qqdd", 1, 1, 1.0, 1.0), b"\xff")]), 422),
        (encode_rows(1, [row(n, a=1.0) for n in range(1, 1_002)]), 413),
        (HEAD + struct.pack("<BII", 1, 40_000, 0) + bytes(24 * 40_000), 413),
    ],
)
def test_bad_rows_are_refused_without_a_trace(client: Client, body: bytes, status: int) -> None:
    sent = post(client, "badrows", body)

    assert sent.status == status
    assert sent.headers["content-type"] == "application/problem+json"
    assert json.loads(sent.body)["errors"]
    assert client.get("/runs/badrows").status == 404
