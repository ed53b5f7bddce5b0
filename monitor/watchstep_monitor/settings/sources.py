"""Where settings come from: command line over environment over file over default."""

from __future__ import annotations

import difflib
import json
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from watchstep.errors import SettingsError
from watchstep_monitor.settings.schema import ReceiverSettings, Settings

PREFIX = "WATCHSTEP_"
DEFAULT_FILE = Path("watchstep.yaml")
MAX_FILE_BYTES = 1_048_576
SECRET_FIELDS = ("database_url", "secret", "url", "tokens")
"""Last part of the keys that may be given as a file that holds the value (`..._FILE`)."""

TRAINER_VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("URL", "TOKEN", "TOKEN_FILE", "PROJECT", "RUN", "DIR", "MODE"),
        *("OUTSIDE", "RESUME_FROM", "DEMO_FAULT"),
    )
)
"""Names that belong to the trainer's side."""

Key = tuple[str, ...]
"""A setting's name, part by part."""

_OF_KUBERNETES = re.compile(r"WATCHSTEP\w*_(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP))")
"""What Kubernetes sets by itself for a service of that name."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and where each value came from.

    Attributes:
        origins: Dotted key to "default", "file", "environment" or "command line".
        warnings: A sentence for every environment variable that is no setting.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def shown(self) -> Iterator[tuple[str, object, str]]:
        """(dotted key, value, origin) of every setting; secrets as "**********"."""
        for key, value in _flatten(self.settings.model_dump(mode="json"), (), unset=True):
            dotted = ".".join(key)
            yield dotted, value, self._origin(dotted)

    def _origin(self, dotted: str) -> str:
        parts = dotted.split(".")
        prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        return next((self.origins[p] for p in prefixes if p in self.origins), "default")


def load_settings(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> LoadedSettings:
    """Read and check all settings.

    Args:
        file: The file to read; None reads `watchstep.yaml` if it is there.
        environ: None for this process' own.
        overrides: Dotted keys from the command line; values of None are left out.

    Raises:
        SettingsError: One line that names the key, or the file and line, and what would be
            right. Values of secrets are never in it.
    """
    path = file if file is not None else (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    environ = os.environ if environ is None else environ
    flags = ((tuple(dotted.split(".")), value) for dotted, value in (overrides or {}).items())
    layers: dict[str, Iterable[tuple[Key, Any]]] = {
        "file": _flatten({} if path is None else _read_file(path), ()),
        "environment": _read_environ(environ),
        "command line": ((key, value) for key, value in flags if value is not None),
    }
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers.items():
        for key, value in layer:
            _refuse_unknown(key, str(path) if origin == "file" else origin)
            _put(merged, key, value)
            origins[".".join(key)] = origin
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(_one_line(error, origins)) from None
    return LoadedSettings(settings, origins, tuple(_unknown_variables(environ)))


def _read_file(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise SettingsError(f"{path}: larger than {MAX_FILE_BYTES} bytes, no settings file is")
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = False
    try:
        document = yaml.load(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        problem = (error.problem or "not YAML").splitlines()[0]
        raise SettingsError(f"{path}:{line}: {problem}") from None
    except (YAMLError, ValueError, RecursionError):
        raise SettingsError(f"{path}: not YAML") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: must hold keys and values, not a {type(document).__name__}")
    return document


def _read_environ(environ: Mapping[str, str]) -> Iterator[tuple[Key, object]]:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in TRAINER_VARIABLES:
            continue
        key = tuple(name[len(PREFIX) :].lower().split("__"))
        from_file = key[-1].endswith("_file") and key[-1][:-5] in SECRET_FIELDS
        if from_file:
            key = (*key[:-1], key[-1][:-5])
        # Trainers of other versions read one word from the same environment, see `warnings`.
        if len(key) == 1 and key[0] not in Settings.model_fields:
            continue
        if not all(key):
            raise SettingsError(f"{name}: a part of the name between underscores is empty")
        text = _secret_text(name, environ[name]) if from_file else environ[name]
        yield key, _typed(name, text, key)


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    names = {PREFIX + "__".join(key).upper() for key in _keys(Settings, ())} | TRAINER_VARIABLES
    # A section is set off by two underscores, of which one is easily forgotten.
    by_spelling = {name[len(PREFIX) :].replace("__", "_"): name for name in sorted(names)}
    for name in sorted(environ):
        word = name[len(PREFIX) :].lower()
        is_ours = "__" in word or word.removesuffix("_file") in Settings.model_fields
        if not name.startswith(PREFIX) or is_ours or name in TRAINER_VARIABLES:
            continue
        if not _OF_KUBERNETES.fullmatch(name):
            close = difflib.get_close_matches(word.upper(), by_spelling, n=1, cutoff=0.6)
            hint = f"; did you mean {by_spelling[close[0]]}?" if close else ""
            yield f"{name} is no setting{hint}"


def _keys(model: type[BaseModel], above: Key) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        if section is None:
            yield (*above, name)
        else:
            yield from _keys(section, (*above, name))


def _secret_text(name: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{name}: the file that it names cannot be read") from None


def _typed(name: str, text: str, key: Key) -> object:
    """Lists and tables are written as JSON, or as words between commas; the rest is text."""
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError:
            raise SettingsError(f"{name}: starts like JSON but is not") from None
    if key[-1] in {"paths", "allow_private_cidrs", "match", "notify_on", "scopes", "projects"}:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _put(nested: dict[str, Any], key: Key, value: object) -> None:
    for part in key[:-1]:
        inner = nested.setdefault(part, {})
        if not isinstance(inner, dict):
            inner = nested[part] = {}
        nested = inner
    nested[key[-1]] = value


def _flatten(
    nested: Mapping[str, Any], above: Key, *, unset: bool = False
) -> Iterator[tuple[Key, Any]]:
    """Keys and values; `unset` also gives those below the top that are None."""
    for name, value in nested.items():
        key = (*above, str(name))
        if isinstance(value, dict) and value:
            yield from _flatten(value, key, unset=unset)
        elif value is not None or not above or unset:
            yield key, value


def _refuse_unknown(key: Key, place: str) -> None:
    is_receiver = key[0] == "receivers"
    model: type[BaseModel] = ReceiverSettings if is_receiver else Settings
    for at in range(2 if is_receiver else 0, len(key)):
        if key[at] not in model.model_fields:
            close = difflib.get_close_matches(key[at], model.model_fields, n=1)
            hint = f"; did you mean {'.'.join((*key[:at], close[0]))}?" if close else ""
            raise SettingsError(f"{place}: unknown setting {'.'.join(key[: at + 1])}{hint}")
        section = _section_of(model.model_fields[key[at]].annotation)
        if section is None:
            return
        model = section


def _section_of(annotation: object) -> type[BaseModel] | None:
    options = (
        typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    )
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _one_line(error: ValidationError, origins: Mapping[str, str]) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    dotted = ".".join(str(part) for part in first["loc"])
    # A name of the user's own is told as `receivers.TEAM.[key]`.
    place = dotted.removesuffix(".[key]")
    origin = next(
        (
            origin
            for key, origin in origins.items()
            if f"{place}.".startswith(f"{key}.") or key.startswith(f"{place}.")
        ),
        "",
    ) or _origin_of_neighbours(place, origins)
    return f"{dotted}: {first['msg'][0].lower()}{first['msg'][1:]} (from the {origin})"


def _origin_of_neighbours(place: str, origins: Mapping[str, str]) -> str:
    """Where what stands beside a missing value came from: that is where it is missing."""
    beside = place.rpartition(".")[0] + "."
    return next((origin for key, origin in origins.items() if key.startswith(beside)), "default")
