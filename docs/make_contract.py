"""Writes the tables of docs/contract.md from the code, and keeps its prose.

    python docs/make_contract.py [--check]

Between `<!-- made: NAME -->` and `<!-- end -->` stands what this finds: commands, settings,
calls, gauges and Python names. With --check nothing is written; exit code 1 says that the page
is out of date.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import json
import re
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import httpx
import typer
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import watchstep
from watchstep.cli.main import build
from watchstep_monitor.app import running
from watchstep_monitor.gauges import Instruments
from watchstep_monitor.service.clock import SystemClock
from watchstep_monitor.settings import ReceiverSettings, Settings, TokenSettings
from watchstep_monitor.settings.sources import SECRET_FIELDS

PAGE = Path(__file__).parent / "contract.md"
SECTION = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def made(page: str) -> str:
    """The page with every table as the code has it now."""

    def replaced(match: re.Match[str]) -> str:
        return match[1] + "\n" + TABLES[match[2]]() + "\n" + match[3]

    return SECTION.sub(replaced, page)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Commands


def leaf_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words after `watchstep`."""
    yield from _leaves("", typer.main.get_command(build()))


def _leaves(name: str, command: Any) -> Iterator[tuple[str, click.Command]]:
    inner = getattr(command, "commands", None)
    if not inner or command.invoke_without_command:
        yield name.strip(), command
    for word, part in (inner or {}).items():
        yield from _leaves(f"{name} {word}", part)


def _commands() -> str:
    rows = []
    for name, command in leaf_commands():
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        options = [param for param in command.params if param.param_type_name == "option"]
        words = " ".join([name, *(_argument(argument) for argument in arguments)])
        about = (command.help or "").strip().split("\n\n")[0]
        shown = "<br>".join(filter(None, map(_option, options)))
        rows.append((f"`watchstep {words}`", about, shown))
    return table(("Command", "Does", "Options"), rows)


def _argument(argument: Any) -> str:
    word = str(argument.name).upper()
    word += "…" if argument.nargs == -1 else ""
    return word if argument.required else f"[{word}]"


def _option(option: Any) -> str:
    if "--help" in option.opts:
        return ""
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    default = option.default
    if callable(default) or default in (None, False, True, "", ()) or option.required:
        return f"{names}: {option.help or ''}"
    if isinstance(default, enum.Enum):
        default = default.value
    return f"{names}: {option.help or ''} (default `{default}`)"


# Settings


def settings_rows(
    model: type[BaseModel] = Settings, above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, field, annotation) of every setting; a name of the user's own as `<name>`."""
    for name, field in model.model_fields.items():
        key = f"{above}{name}"
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from settings_rows(annotation, key + ".")
        elif name == "receivers":
            yield from settings_rows(ReceiverSettings, key + ".<name>.")
        elif key == "auth.tokens":
            yield key, field, annotation
            yield from settings_rows(TokenSettings, key + "[].")
        else:
            yield key, field, annotation


def _settings() -> str:
    rows = [
        (f"`{key}`", _kind(annotation), _default(field), _variable(key), field.description or "")
        for key, field, annotation in settings_rows()
    ]
    return table(("Key", "Type", "Default", "Environment", "Meaning, unit and reason"), rows)


def _variable(key: str) -> str:
    if "[]" in key:
        return ""
    name = "WATCHSTEP_" + key.replace("<name>", "NAME").replace(".", "__").upper()
    last = key.rpartition(".")[2]
    return f"`{name}`" + (f" or `{name}_FILE`" if last in SECRET_FIELDS else "")


def _kind(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{word}`" for word in typing.get_args(annotation))
    parts = [part for part in typing.get_args(annotation) if part not in (type(None), ...)]
    if typing.get_origin(annotation) is tuple:
        return f"list of {_kind(parts[0])}"
    if parts:
        return " or ".join(_kind(part) for part in parts)
    words = {"str": "text", "SecretStr": "secret text", "float": "number", "int": "whole number"}
    name = getattr(annotation, "__name__", str(annotation))
    return {**words, "Path": "path", "bool": "true or false", "TokenSettings": "table"}.get(
        name, name
    )


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "needed"
    if field.default is None:
        return "unset"
    if isinstance(field.default, tuple):
        return f"`{json.dumps(list(field.default))}`"
    return f"`{field.default}`"


# Calls


def openapi() -> dict[str, Any]:
    """What the service says of itself at /openapi.json."""
    return json.loads(_asked("/openapi.json"))


def metrics_text() -> str:
    """What the service shows Prometheus."""
    return _asked("/metrics")


def _asked(path: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data")
        with running(settings, "http://127.0.0.1:8420") as service:
            transport = httpx.ASGITransport(service.asgi)

            async def ask() -> str:
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost"
                ) as client:
                    return (await client.get(path)).text

            return asyncio.run(ask())


def _calls() -> str:
    rows = []
    for path, methods in sorted(openapi()["paths"].items()):
        for method, operation in methods.items():
            parameters = [
                f"`{parameter['name']}`{_about(parameter)}"
                for parameter in operation.get("parameters", [])
                if parameter["in"] == "query"
            ]
            good = min(int(status) for status in operation["responses"] if status < "300")
            rows.append(
                (
                    f"`{method.upper()} {path}`",
                    operation["summary"],
                    "<br>".join(parameters),
                    str(good),
                )
            )
    return table(("Call", "Does", "Query", "Answers"), rows)


def _about(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    options = [*schema.get("anyOf", []), schema]
    words = next((option["enum"] for option in options if "enum" in option), None)
    default = schema.get("default")
    text = "" if words is None else ": " + ", ".join(words)
    return text + ("" if default is None else f" (default {default})")


# Gauges


def _gauges() -> str:
    instruments = vars(Instruments(SystemClock())).values()
    # The library keeps the names of labels to itself until there is a sample.
    labels = {
        instrument._name: instrument._labelnames  # noqa: SLF001 - see above
        for instrument in instruments
        if isinstance(instrument, MetricWrapperBase)
    }
    rows = []
    for name, kind, about in families():
        base = name.removesuffix("_total")
        rows.append((f"`{name}`", kind, _labels(name, labels.get(base, ())), about))
    return table(("Name", "Type", "Labels", "Meaning"), rows)


def families() -> list[tuple[str, str, str]]:
    """(name, type, help) of every family of the service's own."""
    text = metrics_text()
    helps = dict(re.findall(r"^# HELP (watchstep_\w+) (.*)$", text, re.MULTILINE))
    types = re.findall(r"^# TYPE (watchstep_\w+) (\w+)$", text, re.MULTILINE)
    return [(name, kind, helps[name]) for name, kind in types if not name.endswith("_created")]


FLEET_LABELS = {
    "watchstep_runs": ("status",),
    "watchstep_run_step": ("run", "project"),
    "watchstep_run_last_update_timestamp_seconds": ("run", "project"),
    "watchstep_run_last_heard_timestamp_seconds": ("run", "project"),
    "watchstep_run_status": ("run", "project", "status"),
    "watchstep_run_health": ("run", "project", "health"),
    "watchstep_run_lost_updates_total": ("run", "project"),
    "watchstep_alert_firing": ("run", "rule", "metric", "severity"),
    "watchstep_run_zone": ("run", "project", "metric"),
    "watchstep_run_reading": ("run", "project", "metric"),
    "watchstep_outbox_depth": ("state",),
    "watchstep_receiver_disabled": ("receiver",),
    "watchstep_build_info": ("version", "engine"),
    "watchstep_store_failing": (),
    "watchstep_store_damaged": (),
    "watchstep_store_free_bytes": (),
}
"""Labels of what is collected at a scrape; a test holds them against a real one."""


def _labels(name: str, labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in FLEET_LABELS.get(name, tuple(labels)))


# Python


def python_names() -> list[tuple[str, Any]]:
    """What `import watchstep` offers, and the methods of a watch."""
    from watchstep.rl import standardize_advantages

    members = [(f"watchstep.{name}", getattr(watchstep, name)) for name in watchstep.__all__]
    methods = [
        (f"Watch.{name}", member)
        for name, member in vars(watchstep.Watch).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]
    return [*members, *methods, ("watchstep.rl.standardize_advantages", standardize_advantages)]


def _python() -> str:
    rows = []
    for name, member in python_names():
        about = member.fget.__doc__ if isinstance(member, property) else member.__doc__
        first = "Exit code of a halted trainer: 76." if isinstance(member, int) else about or ""
        rows.append((f"`{name}{_signature(member)}`", first.strip().split("\n\n")[0]))
    return table(("Name", "Is"), rows)


def _signature(function: Any) -> str:
    if not inspect.isfunction(function):
        return ""
    signature = inspect.signature(function)
    words = [
        str(each.replace(annotation=inspect.Parameter.empty))
        for each in signature.parameters.values()
        if each.name != "self"
    ]
    star = [
        at
        for at, each in enumerate(p for p in signature.parameters.values() if p.name != "self")
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    if star:
        words.insert(star[0], "*")
    return f"({', '.join(words)})"


TABLES: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "settings": _settings,
    "calls": _calls,
    "gauges": _gauges,
    "python": _python,
}


def main(words: list[str]) -> int:
    """Write the page, or say whether it is as it should be."""
    before = PAGE.read_text("utf-8")
    after = made(before)
    if "--check" in words:
        return int(before != after)
    PAGE.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
