"""Takes secrets out of what is about to leave the trainer: texts, arguments, configuration.

Events are masked where they are encoded (`wire.event_to_json`), whoever made them; configuration
and tags where they become plain. By names and shapes, so it is a help and no proof: a secret
under an innocent name passes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"
"""What stands in place of a secret."""

_WORDS = (
    "token|secret|secrets|password|passwd|passphrase|pwd|apikey|api[_-]?key|access[_-]?key|"
    "private[_-]?key|credential|credentials|authorization|cookie"
)
# `max_tokens` and `tokenizer` are no secrets: each part of a name is compared whole.
_SECRET_PARTS = frozenset(
    {"token", "secret", "secrets", "password", "passwd", "passphrase", "pwd", "pw", "pass",
     "apikey", "key", "credential", "credentials", "auth", "authorization", "bearer", "cookie"}
)  # fmt: skip
_PASSWORD_PARTS = frozenset(["secret", "password", "passwd", "passphrase", "pwd"])
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ASSIGNED = re.compile(rf"(?i)((?:{_WORDS})['\"]?\s?[=:]\s?)(['\"]?)[^\s'\",;&)}}\]]{{3,}}\2")
# Name and password, or a token alone; a password may hold another @.
_IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^/\s'\"<>]{1,768}@")
# A line that was cut within a password.
_CUT_URL = re.compile(
    r"(?im)\b([a-z][a-z0-9+.-]{1,20}://)[^/\s:@]{0,256}:(?=\d{0,64}[a-z_-])"
    r"[^/\s'\"<>@,;)}\]]{2,512}$"
)
# What stands behind an option is hidden by the option's name, as in a command line.
_OPTION = re.compile(
    r"(?<![\w-])(--?[A-Za-z][\w-]{0,63})(['\"]?(?:,\s?|[\s=]\s{0,8})['\"]?)([^\s'\",]+)"
)
# "password hunter2"; but sentences about passwords, as databases write them, stay readable.
_SAID = re.compile(
    r"(?i)\b(password|passwd|passphrase|wandb login)(\s{1,8})"
    r"(?!(?:authentication|is|was|are|must|for|of|in|and|or|not|to|has|required|incorrect|expired|missing|cannot|failed"
    r"|file|field)\b)(['\"]?)[^\s'\",;]{3,}"
)
_SHAPES = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,512}|hf_[A-Za-z0-9]{16,128}|gh[pousr]_[A-Za-z0-9]{20,255}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,255}|AKIA[0-9A-Z]{16}|wst_[A-Za-z0-9_-]{8,128}"
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{6,2000})"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,4096}")


def names_a_secret(name: str) -> bool:
    """Whether what is called so is to be hidden: `api_key`, `hfToken`, `DB_PASSWORD`."""
    return any(part.lower() in _SECRET_PARTS for part in _PARTS.findall(name))


def names_a_password(name: str) -> bool:
    """Whether even a number that is called so is to be hidden; `num_key_heads` is harmless."""
    return any(part.lower() in _PASSWORD_PARTS for part in _PARTS.findall(name))


def masked(text: str) -> str:
    """The text with what looks like a secret replaced by `HIDDEN`; linear in its length.

    Masking a text twice changes nothing more.
    """
    text = _IN_URL.sub(rf"\1{HIDDEN}@", text)
    text = _CUT_URL.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _SHAPES.sub(HIDDEN, text)
    text = _OPTION.sub(_option_hidden, text)
    text = _SAID.sub(rf"\1\2\3{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def _option_hidden(match: re.Match[str]) -> str:
    option, between, value = match.groups()
    if value.startswith("-") or not names_a_secret(option):
        return match.group()
    return f"{option}{between}{HIDDEN}"


def masked_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event without secrets in its texts, or in fields that are called like secrets."""
    return {key: _masked_value(key, value) for key, value in event.items()}


def _masked_value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return HIDDEN if value and names_a_secret(name) else masked(value)
    if isinstance(value, Mapping):
        return {str(key): _masked_value(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked_value(name, inner) for inner in value]
    return value


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line whose secrets are hidden, also one that stands behind its option."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append(HIDDEN)
        elif equals and names_a_secret(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(masked(argument))
        hide_next = not equals and names_an_option_with_a_secret(argument)
    return shown


def names_an_option_with_a_secret(argument: str) -> bool:
    """Whether what follows on a command line is to be hidden: `--token`."""
    return argument.startswith("-") and names_a_secret(argument)
