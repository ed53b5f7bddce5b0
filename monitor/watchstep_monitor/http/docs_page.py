"""`/docs`: the API on one page, without scripts and without anything from other hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any


def docs_page(schema: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document."""
    info = schema["info"]
    body = "\n".join(_operations(schema["paths"]))
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


def _parameter(parameter: Mapping[str, Any]) -> str:
    note = parameter.get("description") or parameter.get("schema", {}).get("description", "")
    where = "required" if parameter.get("required") else parameter["in"]
    return f"<li><code>{escape(parameter['name'])}</code> ({where}) {escape(note)}</li>"
