"""Scripts, styles and pictures, read once and served under an address that names their content."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to be sent.

    Attributes:
        packed: The same bytes, gzip-compressed.
    """

    media_type: str
    plain: bytes
    packed: bytes


class Assets:
    """All files of the page.

    Attributes:
        fingerprint: Changes whenever any file does, so that browsers may keep each one for
            ever: a new version lies under a new address.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._assets: Mapping[str, Asset] = {
            path.name: _read(path)
            for path in sorted(folder.rglob("*"))
            if path.suffix in _MEDIA_TYPES
        }
        digest = hashlib.blake2b(digest_size=8)
        for name, asset in self._assets.items():
            digest.update(name.encode() + b"\0" + asset.plain + b"\0")
        self.fingerprint = digest.hexdigest()

    def names(self) -> tuple[str, ...]:
        """File names, sorted."""
        return tuple(self._assets)

    def response(self, name: str, request: Request, *, fingerprint: str = "") -> Response | None:
        """The file as an answer, or None where there is none of that name.

        An address of another version gets today's file, kept by no one: a page that was loaded
        before an upgrade goes on working.
        """
        asset = self._assets.get(name)
        if asset is None:
            return None
        fits = "gzip" in request.headers.get("accept-encoding", "")
        headers = {
            "Cache-Control": _FOR_EVER if fingerprint == self.fingerprint else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if fits:
            headers["Content-Encoding"] = "gzip"
        body = asset.packed if fits else asset.plain
        return Response(body, media_type=asset.media_type, headers=headers)


def _read(path: Path) -> Asset:
    plain = path.read_bytes()
    # No time in the header: the same file packs to the same bytes.
    return Asset(_MEDIA_TYPES[path.suffix], plain, gzip.compress(plain, 9, mtime=0))
