"""What `/openapi.json` says beyond what the framework finds out by itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from watchstep.wire import ROWS_TYPE

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


def documented(body: type[BaseModel] | None, summary: str) -> dict[str, Any]:
    """Arguments of a route: its summary, its body and how it refuses."""
    extra: dict[str, Any] = {}
    if body is not None:
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        extra["requestBody"] = {
            "content": {"application/json": {"schema": _inlined(schema)}},
            "required": any(field.is_required() for field in body.model_fields.values()),
        }
    return {
        "summary": summary,
        "openapi_extra": extra,
        "responses": refusals(),
        "response_model": None,
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
    update = {
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
                            "updates": {"type": "array", "items": update},
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
            "202": {"description": "Durable.", "content": {"application/json": {}}},
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
