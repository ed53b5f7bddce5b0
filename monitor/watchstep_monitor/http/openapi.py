"""What `/openapi.json` says beyond what the framework finds out by itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter
from starlette.responses import Response

from watchstep.wire import ROWS_TYPE
from watchstep_monitor.http.answer_types import ANSWERS, Receipt

_COMPONENT = "#/components/schemas/{model}"

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "last_seq": {"type": "integer", "description": "With 409 to a batch."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {}},
                    "type": {"type": "string"},
                    "msg": {"type": "string"},
                },
            },
        },
    },
}
NUMBER = {
    "description": "A finite number, or the word for one that is not.",
    "anyOf": [
        {"type": "number"},
        {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
    ],
}
_UPDATE = {
    "type": "object",
    "required": ["seq", "step", "time"],
    "additionalProperties": False,
    "properties": {
        "seq": {"type": "integer", "minimum": 1, "maximum": 2**53},
        "step": {"type": "integer", "minimum": 0, "maximum": 2**53},
        "time": {
            "anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
            "description": "Epoch seconds or RFC 3339.",
        },
        "metrics": {"type": "object", "additionalProperties": NUMBER},
        "event": {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"type": "string"}},
        },
    },
}
_REFUSALS = {
    "400": "Malformed bytes.",
    "401": "No good token.",
    "403": "The token lacks the scope.",
    "404": "Not there, or not yours.",
    "409": "Something else is stored under this identity.",
    "413": "Too large.",
    "415": "Wrong media type.",
    "422": "Content that cannot be used.",
    "429": "Over a cap; see Retry-After.",
    "503": "The store cannot commit; see Retry-After.",
}


def documented(
    body: type[BaseModel] | None,
    summary: str,
    answers: type | str | None,
    *,
    listed: bool = False,
    status: int = 200,
) -> dict[str, Any]:
    """Arguments of a route: its summary, its body, what it answers and how it refuses.

    Args:
        body: What it takes as JSON, or None.
        summary: One line for people.
        answers: One of `ANSWERS`, the media type of what is not JSON, or None for no body.
        listed: Whether it answers a page of these.
        status: Of an answer that is no refusal.
    """
    extra: dict[str, Any] = {}
    if body is not None:
        schema = body.model_json_schema(ref_template=_COMPONENT)
        extra["requestBody"] = {
            "content": {"application/json": {"schema": _inlined(schema)}},
            "required": any(field.is_required() for field in body.model_fields.values()),
        }
    responses = refusals()
    if isinstance(answers, str):
        responses[status] = {"content": {answers: {"schema": {"type": "string"}}}}
    elif answers is not None:
        told = _page_of(answers) if listed else _reference(answers)
        responses[status] = {"content": {"application/json": {"schema": told}}}
    return {
        "summary": summary,
        "openapi_extra": extra,
        "responses": responses,
        "response_model": None,
        "response_class": Response,
        "status_code": status,
    }


def answer_schemas() -> dict[str, Any]:
    """The schema of every answer and of what it holds, by name."""
    adapters: list[TypeAdapter[Any]] = [TypeAdapter(answer) for answer in ANSWERS]
    _, told = TypeAdapter.json_schemas(
        [(at, "serialization", adapter) for at, adapter in enumerate(adapters)],
        ref_template=_COMPONENT,
    )
    schemas: dict[str, Any] = told["$defs"]
    return schemas


def _reference(answers: type) -> dict[str, Any]:
    return {"$ref": _COMPONENT.format(model=answers.__name__)}


def _page_of(answers: type) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {"type": "array", "items": _reference(answers)},
            "next_cursor": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "For the next page; null at the end.",
            },
        },
    }


def refusals() -> dict[int | str, dict[str, Any]]:
    """Every way in which a call can be refused."""
    return {
        int(status): {
            "description": meaning,
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        for status, meaning in _REFUSALS.items()
    }


def batch_operation() -> dict[str, Any]:
    """The operation of the plain route for batches."""
    return {
        "tags": ["runs"],
        "summary": "Store and judge a batch; 202 once it is durable.",
        "operationId": "accept_updates",
        "parameters": [
            {"name": "run", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["attempt", "updates"],
                        "additionalProperties": False,
                        "properties": {
                            "attempt": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                            "updates": {"type": "array", "items": _UPDATE},
                        },
                    }
                },
                ROWS_TYPE: {
                    "schema": {
                        "type": "string",
                        "format": "binary",
                        "description": "The same updates as rows of little-endian doubles, a "
                        "fifth of the size: the magic `WSR1` and the attempt as u64, then blocks "
                        "of a kind u8 and a count u32. Kind 1: the length u32 of the metric "
                        "names, the names joined by newlines, and so many rows of seq u64, step "
                        "i64, time f64 and one f64 a name. Kind 2: so many bytes of one update "
                        "as a JSON object.",
                    }
                },
            },
        },
        "responses": {
            "202": {
                "description": "Durable.",
                "content": {"application/json": {"schema": _reference(Receipt)}},
            },
            **{str(status): told for status, told in refusals().items()},
        },
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its definitions in place of the references to them."""
    definitions = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name in definitions:
                return resolve(definitions[name])
            return {key: resolve(inner) for key, inner in part.items()}
        if isinstance(part, list):
            return [resolve(inner) for inner in part]
        return part

    resolved: dict[str, Any] = resolve(schema)
    return resolved
