"""`/docs`: the API on one page, without scripts and without anything from other hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any


def docs_page(schema: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document."""
    info = schema["info"]
    known = schema["components"]["schemas"]
    body = "\n".join([*_operations(schema["paths"]), "<h2>Answers</h2>", *_answers(known)])
    title = escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        '<meta name="viewport" content="width=device-width"></head><body>'
        f'<h1>{title}: API</h1><p>The whole of it: <a href="/openapi.json">openapi.json</a></p>'
        f"{body}</body></html>"
    )


def _operations(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, operations in sorted(paths.items()):
        for method, operation in operations.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p>{escape(operation.get('summary', ''))}</p>"
            parameters = "".join(_parameter(one) for one in operation.get("parameters", ()))
            if parameters:
                yield f"<ul>{parameters}</ul>"
            for status, response in operation["responses"].items():
                if status.startswith("2"):
                    yield f"<p>{status}: {_told(response)}</p>"


def _told(response: Mapping[str, Any]) -> str:
    """What an answer holds, with links to where its parts are described."""
    media = response.get("content", {})
    return ", ".join(_kind(one.get("schema", {})) or escape(name) for name, one in media.items())


def _answers(known: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(known.items()):
        if "properties" not in schema:
            continue
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
        yield f"<p>{escape(schema.get('description', ''))}</p>"
        fields = "".join(
            f"<li><code>{escape(key)}</code> ({_kind(field)}) {escape(_note(field))}</li>"
            for key, field in schema["properties"].items()
        )
        yield f"<ul>{fields}</ul>"


def _note(field: Mapping[str, Any]) -> str:
    return str(field.get("description", ""))


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if "items" in schema.get("properties", {}):
        return f"page of {_kind(schema['properties']['items']['items'])}"
    return escape(str(schema.get("format", schema.get("type", ""))))


def _parameter(parameter: Mapping[str, Any]) -> str:
    note = parameter.get("description") or parameter.get("schema", {}).get("description", "")
    where = "required" if parameter.get("required") else parameter["in"]
    return f"<li><code>{escape(parameter['name'])}</code> ({where}) {escape(note)}</li>"
