"""Scripts, styles and pictures, read once and served under an address that names their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"


class Assets:
    """All files of the page; the application packs what it sends.

    Attributes:
        fingerprint: Changes whenever any file does, so that browsers may keep each for ever: a
            new version lies under a new address.
    """

    def __init__(self) -> None:
        self._files: Mapping[str, tuple[str, bytes]] = {
            path.name: (_MEDIA_TYPES[path.suffix], path.read_bytes())
            for path in sorted(FOLDER.rglob("*"))
            if path.suffix in _MEDIA_TYPES
        }
        digest = hashlib.blake2b(digest_size=8)
        for name, (_, content) in self._files.items():
            digest.update(name.encode() + b"\0" + content + b"\0")
        self.fingerprint = digest.hexdigest()

    def response(self, name: str, fingerprint: str) -> Response | None:
        """The file as an answer, or None where there is none of that name.

        An address of another version gets today's file, kept by nobody: a page that was loaded
        before an upgrade goes on working.
        """
        if name not in self._files:
            return None
        media_type, content = self._files[name]
        cached = _FOR_EVER if fingerprint == self.fingerprint else "no-cache"
        return Response(content, media_type=media_type, headers={"Cache-Control": cached})
