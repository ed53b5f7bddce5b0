"""Signatures of the generic webhook, as Standard Webhooks describes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

from watchstep_monitor.notify.config import ReceiverConfig


def signed_headers(notice_id: str, body: str, secrets: str, now: datetime) -> Mapping[str, str]:
    """The headers `webhook-id`, `webhook-timestamp` and, with a secret, `webhook-signature`.

    Args:
        notice_id: Constant over retries: what a receiver tells duplicates by.
        body: Exactly what is sent.
        secrets: Keys separated by spaces. While they are rotated the header carries one
            signature of each, and a receiver accepts the message when one fits its key.
            `whsec_…` is base64. Any other text signs twice where that differs: as its own
            UTF-8 bytes, and as the base64 that the standard's own libraries take it for.
        now: UTC, aware: the time of this attempt.
    """
    headers = {"webhook-id": notice_id, "webhook-timestamp": str(int(now.timestamp()))}
    # The library overwrites the time zone instead of converting: only UTC comes out right.
    at = now.astimezone(UTC)
    keys = [key for secret in secrets.split() for key in _keys(secret)]
    if keys:
        signatures = [Webhook(key).sign(notice_id, at, body) for key in keys]
        headers["webhook-signature"] = " ".join(dict.fromkeys(signatures))
    return headers


def check_secrets(receiver: ReceiverConfig) -> None:
    """Refuse a `whsec_…` that is not base64, before the first message needs it.

    Raises:
        ValueError: Naming the receiver, without the secret.
    """
    for secret in receiver.secret.split():
        try:
            _keys(secret)
        except ValueError as error:
            raise ValueError(f"receivers.{receiver.name}.secret: {error}") from None


def _keys(secret: str) -> list[bytes]:
    if secret.startswith("whsec_"):
        try:
            decoded = base64.b64decode(secret.removeprefix("whsec_") + "==")
        except (binascii.Error, ValueError):
            decoded = b""
        if not decoded:
            raise ValueError("a secret that begins with whsec_ must go on in base64")
        return [decoded]
    return [secret.encode(), *_as_library_reads(secret)]


def _as_library_reads(secret: str) -> list[bytes]:
    try:
        decoded = base64.b64decode(secret + "==")
    except (binascii.Error, ValueError):
        return []
    return [decoded] if decoded else []
