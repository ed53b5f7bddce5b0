"""`tokens.json`: where tokens were kept before the schema 0003, a file in each data folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from watchstep.errors import SettingsError
from watchstep_monitor.service.tokens import TokenRecord, TokenStore

log = logging.getLogger(__name__)

FILE_NAME = "tokens.json"


def adopt_filed(tokens: TokenStore, folder: Path) -> None:
    """Store the tokens of a folder's file that are not stored yet.

    The file stays, for replicas of the version before, which know no other place; a token that was
    revoked since stays revoked.

    Raises:
        SettingsError: The file is damaged; then no one is let in by mistake.
    """
    filed = filed_tokens(folder)
    if filed and (count := tokens.adopt(filed)):
        log.info("tokens taken over from their file", extra={"count": count})


def filed_tokens(folder: Path) -> list[TokenRecord]:
    """The tokens in a folder's file; none if there is no file.

    Raises:
        SettingsError: The file is damaged; then no one is let in by mistake.
    """
    path = folder / FILE_NAME
    try:
        return [_token(entry) for entry in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except (ValueError, TypeError, KeyError):
        raise SettingsError(f"{path}: damaged; remove it and create the tokens anew") from None


def _token(entry: Mapping[str, Any]) -> TokenRecord:
    return TokenRecord(
        name=str(entry["name"]),
        sha256=str(entry["sha256"]),
        scopes=tuple(entry["scopes"]),
        projects=tuple(entry["projects"]),
        created_at=_moment(entry.get("created_at")),
        revoked_at=_moment(entry.get("revoked_at")),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
