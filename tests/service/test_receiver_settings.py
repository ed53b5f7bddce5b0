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
