"""Tokens in the store, over SQLite and over PostgreSQL, and what the service makes of them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.http_kit import until
from service.kit import START, Bench, MovedClock, bench, postgres_database
from watchstep.errors import SettingsError
from watchstep_monitor.http.problems import ProblemError
from watchstep_monitor.http.tokens import EVERYONE, Keyring
from watchstep_monitor.service import tokens as watching
from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.tokens import TokenRecord, TokenWatch, hash_of, new_token
from watchstep_monitor.settings import TokenSettings
from watchstep_monitor.store import open_store
from watchstep_monitor.store.offline_tokens import stored_tokens, tokens_of
from watchstep_monitor.store.opening import FILE_NAME, StoreOptions
from watchstep_monitor.store.tokens import adopt_filed

DAY = START.date()


def token(name: str = "ada", *scopes: str, **columns: Any) -> tuple[str, TokenRecord]:
    secret, made = new_token(name, scopes or ("read",), (), START)
    return secret, replace(made, **columns)


def test_tokens_come_back_as_they_were_made(at: Bench) -> None:
    _, plain = token("ada")
    _, full = token(
        "bob", "ingest", "admin", projects=("a b", "\u00e9"), expires_at=START + timedelta(1)
    )

    assert at.opened.tokens.create(full)
    assert at.opened.tokens.create(plain)

    assert at.opened.tokens.tokens() == [plain, full]


def test_a_name_is_taken_until_its_token_is_revoked(at: Bench) -> None:
    tokens, (_, first), (_, second) = at.opened.tokens, token(), token()
    assert tokens.create(first)

    assert not tokens.create(second)
    assert tokens.revoke("ada", START)
    assert not tokens.revoke("ada", START + timedelta(1))
    assert tokens.create(second)

    assert {each.sha256: each.revoked_at for each in tokens.tokens()} == {
        first.sha256: START,
        second.sha256: None,
    }


def test_the_day_of_use_only_moves_on(at: Bench) -> None:
    _, made = token()
    at.opened.tokens.create(made)

    for day in (DAY, DAY - timedelta(1), DAY + timedelta(2), DAY + timedelta(1)):
        at.opened.tokens.note_used({made.sha256: day, "0" * 64: day})

    assert [each.used_on for each in at.opened.tokens.tokens()] == [DAY + timedelta(2)]


def test_a_token_opens_what_its_scope_says_until_it_expires_or_is_revoked(at: Bench) -> None:
    reader, kept = token("reader", expires_at=START + timedelta(seconds=60))
    boss, other = token("boss", "admin")
    at.opened.tokens.create(kept)
    at.opened.tokens.create(other)
    clock = MovedClock()
    watch = TokenWatch(at.opened.tokens, clock)
    keyring = Keyring((), watch, clock)
    watch.start()
    try:
        assert answer(keyring, reader, "read") == "reader"
        assert answer(keyring, reader, "admin") == 403
        assert answer(keyring, boss, "read") == "boss"
        assert answer(keyring, "wst_other", "read") == 401
        clock.move(60)
        assert answer(keyring, reader, "read") == 401
        at.opened.tokens.revoke("boss", START)
        watch.look_soon()
        until(lambda: answer(keyring, boss, "read") == 401)
    finally:
        watch.stop()


def answer(keyring: Keyring, secret: str, scope: str) -> str | int:
    try:
        return keyring.caller({"authorization": f"Bearer {secret}"}, scope).name
    except ProblemError as problem:
        return problem.status


class Counted:
    """A store of tokens that counts the days that were written to it, and may be away."""

    def __init__(self, *tokens: TokenRecord) -> None:
        self.kept = list(tokens)
        self.noted: list[dict[str, date]] = []
        self.away = False

    def tokens(self) -> list[TokenRecord]:
        if self.away:
            raise StorageTroubleError("away")
        return list(self.kept)

    def note_used(self, used: dict[str, date]) -> None:
        self.noted.append(dict(used))
        self.kept = [
            replace(each, used_on=used.get(each.sha256, each.used_on)) for each in self.kept
        ]


def test_a_busy_token_costs_one_write_a_day_and_one_of_the_settings_none() -> None:
    secret, kept = token()
    store, clock = Counted(kept), MovedClock()
    watch = TokenWatch(store, clock)  # type: ignore[arg-type]
    named = TokenSettings(name="set", sha256=hash_of("wst_set"), scopes=("read",))
    keyring = Keyring([named], watch, clock)
    watch._known = tuple(store.tokens())

    for _ in range(3):
        for each in (secret, "wst_set"):
            assert answer(keyring, each, "read") != 401
        watch._look()
    clock.move(86_400)
    answer(keyring, secret, "read")
    watch._look()

    assert store.noted == [{kept.sha256: DAY}, {kept.sha256: DAY + timedelta(1)}]


def test_while_the_store_is_away_the_tokens_of_before_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 0.01)
    secret, kept = token()
    store, clock = Counted(kept), MovedClock()
    watch = TokenWatch(store, clock)  # type: ignore[arg-type]
    keyring = Keyring((), watch, clock)
    watch.start()
    try:
        store.away = True
        assert answer(keyring, secret, "read") == "ada"
        store.kept, store.away = [replace(kept, revoked_at=START)], False
        until(lambda: answer(keyring, secret, "read") == 401)
    finally:
        watch.stop()


def test_a_table_that_was_emptied_by_hand_opens_no_doors() -> None:
    _, kept = token()
    store, clock = Counted(kept), MovedClock()
    watch = TokenWatch(store, clock)  # type: ignore[arg-type]
    keyring = Keyring((), watch, clock)
    assert keyring.caller({}, "admin") is EVERYONE
    watch._look()
    assert keyring.required()

    store.kept = []
    watch._look()

    assert keyring.required()


def test_revoked_in_the_store_is_revoked_although_the_settings_name_it() -> None:
    secret, kept = token(revoked_at=START)
    watch = TokenWatch(Counted(kept), MovedClock())  # type: ignore[arg-type]
    watch._look()
    named = TokenSettings(name="ada", sha256=kept.sha256)

    assert answer(Keyring([named], watch, MovedClock()), secret, "read") == 401


def test_a_replica_hears_of_a_new_token_at_once(tmp_path: Path) -> None:
    heard: list[str] = []
    with postgres_database() as url, bench(tmp_path / "one", database_url=url) as replica:
        assert replica.opened.replicas is not None
        replica.opened.replicas.start(lambda news: heard.append(news.kind))
        until(replica.opened.replicas.leads)

        with tokens_of(StoreOptions(tmp_path / "two", url)) as tokens:
            tokens.create(token()[1])

        until(lambda: heard == ["tokens"])


def test_tokens_are_made_and_revoked_beside_a_service_that_has_the_folder(tmp_path: Path) -> None:
    _, first = token("first")
    _, second = token("second")
    options = StoreOptions(tmp_path / "data")
    with bench(tmp_path) as at:
        at.opened.tokens.create(first)

        with tokens_of(options) as tokens:
            assert tokens.create(second)
            assert tokens.revoke("first", START)

        assert [each.state(START) for each in at.opened.tokens.tokens()] == ["revoked", "good"]
    assert [stored_token.name for stored_token in stored_tokens(options)] == ["first", "second"]


def test_beside_a_service_of_another_version_nothing_is_written(tmp_path: Path) -> None:
    options = StoreOptions(tmp_path / "data")
    with bench(tmp_path):
        with sqlite3.connect(options.data_dir / FILE_NAME) as raw:
            raw.execute("UPDATE alembic_version SET version_num = '0002'")
        raw.close()

        with pytest.raises(SettingsError, match="schema 0002"), tokens_of(options):
            pass


def test_a_file_of_before_is_taken_over_once_and_revoked_stays_revoked(tmp_path: Path) -> None:
    filed = [
        {"name": "old", "sha256": "a" * 64, "scopes": ["read"], "projects": ["p"],
         "created_at": "2026-01-02T03:04:05Z", "revoked_at": None},
        {"name": "gone", "sha256": "b" * 64, "scopes": ["read"], "projects": [],
         "created_at": "2026-01-02T03:04:05Z", "revoked_at": "2026-02-02T03:04:05Z"},
    ]  # fmt: skip
    options = StoreOptions(tmp_path)
    (tmp_path / "tokens.json").write_text(json.dumps(filed))
    opened = open_store(options)
    try:
        adopt_filed(opened.tokens, tmp_path)
        opened.tokens.revoke("old", START)
        adopt_filed(opened.tokens, tmp_path)

        tokens = {token.name: token for token in opened.tokens.tokens()}
    finally:
        opened.close()

    assert tokens["old"].created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert tokens["old"].projects == ("p",)
    assert {name: token.state(START) for name, token in tokens.items()} == {
        "old": "revoked",
        "gone": "revoked",
    }


def test_a_damaged_file_lets_no_one_in(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("[{}]")
    opened = open_store(StoreOptions(tmp_path))
    try:
        with pytest.raises(SettingsError, match="damaged"):
            adopt_filed(opened.tokens, tmp_path)
    finally:
        opened.close()
