"""Which receivers need an address."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchstep.errors import SettingsError
from watchstep_monitor.settings import load_settings


def _load(tmp_path: Path, receiver: str) -> object:
    file = tmp_path / "watchstep.yaml"
    file.write_text(f"receivers:\n  pager: {receiver}\n")
    return load_settings(file, environ={}, overrides={}).settings


def test_a_pagerduty_receiver_needs_its_routing_key_only(tmp_path: Path) -> None:
    settings = _load(tmp_path, "{kind: pagerduty, secret: key}")

    assert settings is not None


def test_any_other_receiver_without_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="url is missing"):
        _load(tmp_path, "{kind: slack}")


@pytest.mark.parametrize(
    "receiver",
    ["{kind: slack}", "{url: 'https://x.example'}", "{kind: nonsense, url: 'https://x'}"],
)
def test_a_mistake_in_the_file_is_said_to_be_from_the_file(tmp_path: Path, receiver: str) -> None:
    with pytest.raises(SettingsError, match=r"\(from the file\)"):
        _load(tmp_path, receiver)


def test_a_name_that_is_none_is_said_to_be_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "watchstep.yaml"
    file.write_text("receivers:\n  TEAM: {kind: slack, url: 'https://x.example'}\n")

    with pytest.raises(SettingsError, match=r"\(from the file\)"):
        load_settings(file, environ={}, overrides={})
