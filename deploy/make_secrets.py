"""Make every secret that a deployment needs, once.

    python3 deploy/make_secrets.py [FOLDER]

Writes one file a secret into FOLDER (default `secrets`), which Compose mounts and from which
Kubernetes secrets are made. A file that exists is left alone, except that a token without its
hash is made anew. Needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from pathlib import Path

TOKENS = {
    "trainer_token": ("trainer", ("ingest", "read")),
    "prometheus_token": ("prometheus", ("read",)),
    "admin_token": ("admin", ("ingest", "read", "admin")),
}
"""File name to the token's name and scopes."""

FOLDER_MODE = 0o700
FILE_MODE = 0o444
"""Readable by all, in a folder that only its owner may enter: Compose mounts the files
themselves, and the users inside of the containers are none that this machine knows."""


def main(folder: Path) -> list[Path]:
    """Write what is missing; returns the files written."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    # The folder keeps itself out of every repository, whatever it is called.
    (folder / ".gitignore").write_text("*\n", "utf-8")
    password = _kept_or_new(folder / "postgres_password")
    texts = {
        "postgres_password": password,
        "database_url": f"postgresql+psycopg://watchstep:{password}@postgres:5432/watchstep",
        "grafana_admin_password": secrets.token_urlsafe(24),
    }
    if not all((folder / name).exists() for name in (*TOKENS, "tokens.json")):
        texts |= _fresh_tokens()
        for name in (*TOKENS, "tokens.json"):
            (folder / name).unlink(missing_ok=True)
    return [folder / name for name, text in texts.items() if _written(folder / name, text)]


def _fresh_tokens() -> dict[str, str]:
    """The tokens, and the list of their hashes, which is all that the service gets."""
    texts, hashes = {}, []
    for file, (name, scopes) in TOKENS.items():
        token = "wst_" + secrets.token_urlsafe(32)
        texts[file] = token
        digest = hashlib.sha256(token.encode()).hexdigest()
        hashes.append({"name": name, "sha256": digest, "scopes": list(scopes)})
    return texts | {"tokens.json": json.dumps(hashes)}


def _kept_or_new(path: Path) -> str:
    return path.read_text("utf-8").strip() if path.exists() else secrets.token_urlsafe(24)


def _written(path: Path, text: str) -> bool:
    if path.exists():
        return False
    # Without a newline: psql and Grafana would take it for a part of the password.
    path.write_text(text, "utf-8")
    path.chmod(FILE_MODE)
    return True


if __name__ == "__main__":
    for written in main(Path(sys.argv[1] if len(sys.argv) > 1 else "secrets")):
        sys.stdout.write(f"{written}\n")
