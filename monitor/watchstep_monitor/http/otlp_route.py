"""`POST /v1/metrics`: OpenTelemetry's gauges and sums as readings of a run.

They are the source `otlp` of the run, beside whatever a trainer says. Such a stream has no numbers
of its own, so each request's updates come after the source's last. It is at least once: what an
exporter sends again is stored again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from watchstep.core.updates import TRAINING
from watchstep.wire.names import legal_metric_name, legal_run_name
from watchstep_monitor.http.admin_routes import root_routes
from watchstep_monitor.http.bodies import media_type
from watchstep_monitor.http.calls import Shared, Who, call
from watchstep_monitor.http.context import Context
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.http.strict_json import read_json
from watchstep_monitor.http.tokens import Caller
from watchstep_monitor.service.errors import ConflictError, NotFoundError

__all__ = ["accept_metrics", "root_routes"]

SOURCE = "otlp"
FORMER_TRAINER = "OpenTelemetry"
"""Of runs that OTLP began before it was a source of its own: there it goes on as the training."""

PROTOBUF = "application/x-protobuf"
_TRIES = 8
"""Against other replicas; within this process the locks keep requests for one run apart."""

_LOCKS = tuple(threading.Lock() for _ in range(64))


class _Point(NamedTuple):
    name: str
    value: Any
    time: float
    step: int | None


@root_routes.post(
    "/v1/metrics",
    **call(
        "Gauges and sums of OpenTelemetry (OTLP), as JSON or protobuf.",
        "ingest",
        response_class=Response,
        response_model=None,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
                },
            }
        },
        responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    ),
)
async def accept_metrics(request: Request, context: Shared, who: Who) -> Response:
    """A run is the resource attribute that the setting `otlp.run_attribute` names."""
    kind = media_type(request.headers)
    if kind not in {"application/json", PROTOBUF}:
        raise ProblemError(415, f"The body must be application/json or {PROTOBUF}.")
    context.run_service.admit()
    body = await request.body()
    document = read_json(body) if kind == "application/json" else _of_protobuf(body)
    left_out, reason = await run_in_threadpool(_store, context, who, document)
    partial = {"rejectedDataPoints": left_out, "errorMessage": reason} if left_out else None
    return _answer(kind, partial)


def _store(context: Context, who: Caller, document: Any) -> tuple[int, str]:
    """Store what can be; how many points cannot, and why."""
    left_out, reason = 0, ""
    for resource in _listed(document, "resourceMetrics"):
        attributes = _attributes(resource.get("resource"))
        points, others = _points(resource)
        run = attributes.get(context.otlp_run_attribute)
        if others:
            left_out, reason = left_out + others, "only gauges and sums become readings"
        if points and not run:
            left_out += len(points)
            reason = f"the resource has no attribute {context.otlp_run_attribute}"
        elif points:
            _append(context, who, legal_run_name(str(run)), points)
    return left_out, reason


def _append(context: Context, who: Caller, run: str, points: list[_Point]) -> None:
    """Store the points after the source's last update, however many do so at the same time.

    Raises:
        ProblemError: See `BatchReader.read`.
        ServiceError: See `RunService.accept`.
    """
    with _LOCKS[hash(run) % len(_LOCKS)]:
        for tries_left in reversed(range(_TRIES)):
            source, attempt, last_seq = _place(context, who, run)
            updates = [{**each, "source": source} for each in _updates(points, last_seq)]
            body = json.dumps({"attempt": attempt, "updates": updates}).encode()
            batch = context.batches.read(run, body, who.projects)
            try:
                receipt = context.run_service.accept(batch).result(context.limits.commit_wait_s)
            except ConflictError:
                # Another request has taken these numbers, so nothing of this one was stored.
                if not tries_left:
                    raise
            else:
                if context.metrics is not None:
                    context.metrics.updates_stored(receipt.accepted, receipt.duplicates, 0)
                return


def _place(context: Context, who: Caller, run: str) -> tuple[str, int, int]:
    """As which source the points come, in which attempt, and after which number."""
    try:
        view = context.run_service.view(run, who.projects)
    except NotFoundError:
        # It is made by what is sent to it, or refused to this caller.
        return SOURCE, 1, 0
    if view.record.trainer == FORMER_TRAINER:
        return TRAINING, view.record.attempt, view.record.last_seq
    return SOURCE, max(view.record.attempt, 1), view.last_seqs.get(SOURCE, 0)


def _updates(points: list[_Point], last_seq: int) -> Iterator[dict[str, Any]]:
    """Points of one step, or of one time each name at most once, make one update."""
    update: dict[str, Any] = {}
    for point in sorted(points, key=lambda point: point.time):
        others = update.get("step"), None
        if update and (point.name in update["metrics"] or point.step not in others):
            yield update
            last_seq += 1
            update = {}
        if not update:
            step = last_seq + 1 if point.step is None else point.step
            update = {"seq": last_seq + 1, "step": step, "time": point.time, "metrics": {}}
        update["metrics"][point.name] = point.value
    if update:
        yield update


def _points(resource: Mapping[str, Any]) -> tuple[list[_Point], int]:
    """The gauges' and sums' data points, and how many there are of other kinds."""
    points: list[_Point] = []
    others = 0
    for scope in _listed(resource, "scopeMetrics"):
        for metric in _listed(scope, "metrics"):
            kind = metric.get("gauge", metric.get("sum"))
            for point in _listed(kind, "dataPoints") if isinstance(kind, dict) else ():
                read = _point(str(metric.get("name", "")), point)
                points += [read] if read is not None else []
                others += read is None
            for name in ("histogram", "exponentialHistogram", "summary"):
                if isinstance(metric.get(name), dict):
                    others += len(_listed(metric[name], "dataPoints"))
    return points, others


def _point(name: str, point: Mapping[str, Any]) -> _Point | None:
    """A data point as a reading: its attributes are part of the name, but for `step`."""
    attributes = _attributes(point)
    step = attributes.pop("step", None)
    value = point.get("asDouble", point.get("asInt"))
    try:
        # 64-bit integers are texts in OTLP's JSON.
        if "asDouble" not in point:
            value = int(value)
        time = int(point.get("timeUnixNano", 0)) / 1e9
        number = None if step is None else int(step)
    except (TypeError, ValueError, OverflowError):
        return None
    labels = "".join(f"/{key}:{part}" for key, part in sorted(attributes.items()))
    return _Point(legal_metric_name(name + labels), value, time, number) if name else None


def _attributes(owner: Any) -> dict[str, Any]:
    """Name to plain value; lists and mappings are left out."""
    plain: dict[str, Any] = {}
    for pair in _listed(owner, "attributes"):
        value = pair.get("value")
        scalars = list(value.values()) if isinstance(value, dict) else []
        if scalars and isinstance(scalars[0], str | int | float):
            plain[str(pair.get("key"))] = scalars[0]
    return plain


def _listed(owner: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects in an object; absent is empty.

    Raises:
        ProblemError: It is something else.
    """
    listed = owner.get(name, []) if isinstance(owner, dict) else [] if owner is None else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        flaw = Flaw(("body", name), "type", "must be a list of objects")
        raise ProblemError(422, "The body is no OTLP metrics.", flaws=[flaw])
    return listed


def _of_protobuf(body: bytes) -> Any:
    """The same document as in JSON.

    Raises:
        ProblemError: It cannot be read, or nothing is installed that could.
    """
    message = _message("ExportMetricsServiceRequest")
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(body)
    except DecodeError:
        raise ProblemError(400, "The body is no OTLP metrics.") from None
    return MessageToDict(message)


def _message(name: str) -> Any:
    try:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
    except ImportError:
        why = "Protobuf needs the extra otlp at the service; JSON does not."
        raise ProblemError(415, why) from None
    return getattr(metrics_service_pb2, name)()


def _answer(kind: str, partial: Mapping[str, Any] | None) -> Response:
    document = {} if partial is None else {"partialSuccess": partial}
    if kind == "application/json":
        return Response(json.dumps(document), media_type=kind)
    from google.protobuf.json_format import ParseDict

    message = ParseDict(document, _message("ExportMetricsServiceResponse"))
    return Response(message.SerializeToString(), media_type=kind)
