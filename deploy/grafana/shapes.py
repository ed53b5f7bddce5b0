"""What a dashboard is described with, and how that becomes Grafana's classic JSON.

The JSON is the "classic" (v1) dashboard, which Grafana 10 to 13 import. Everything that every
panel shares is decided here; a description says only what makes a panel that panel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["stat", "timeseries", "state-timeline", "table", "text"]

SCHEMA_VERSION = 41
"""Of Grafana 11.6 and 12; later ones migrate it as they load, earlier ones ignore it."""

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24

# Blue to vermilion (Okabe and Ito's palette), so that the order can be told without telling red
# from green.
ZONES = (
    ("ok", "#56B4E9"),
    ("info", "#F0E442"),
    ("warning", "#E69F00"),
    ("critical", "#D55E00"),
)
PLAIN, BAD = "#56B4E9", "#D55E00"

# Grafana shows NaN as an empty cell unless told otherwise.
NAN: Json = {
    "type": "special",
    "options": {"match": "nan", "result": {"text": "NaN", "color": BAD}},
}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query of a panel.

    Attributes:
        expr: May use the dashboard's variables and Grafana's own (`$__rate_interval`).
        legend: Grafana's pattern; empty for the series' labels.
        instant: Only the newest value, as tables and single numbers want it.
    """

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        about: What it shows and how to read it; the "i" in the panel's corner.
        unit: Grafana's word for the unit; empty for none.
        zones: Colour values 0 to 3 as severities, and name them.
        alarm: The value from which the number turns to the colour of bad; None for never.
        links: Title and address, on every value of the panel.
        names: A single number shows what it is called, not the number.
        repeat: A variable; one panel for each of its values.
        hidden: Columns of a table that are left out.
        renamed: Columns of a table and what they are called.
        text: Of a text panel, Markdown.
    """

    kind: Kind
    title: str
    about: str
    queries: tuple[Query, ...] = ()
    width: int = 12
    height: int = 8
    unit: str = ""
    zones: bool = False
    alarm: float | None = None
    links: tuple[tuple[str, str], ...] = ()
    names: bool = False
    repeat: str = ""
    hidden: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that is asked of Prometheus.

    Attributes:
        query: `label_values(...)`.
        many: Whether several, or all, may be chosen.
    """

    name: str
    label: str
    query: str
    many: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard."""

    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[Panel, ...], ...]
    tags: tuple[str, ...] = field(default=("watchstep",))
    marks: bool = True


def to_json(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana imports it: no id, so that it takes or keeps its own by `uid`."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": list(dashboard.tags),
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": _links(),
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables), _page()]},
        "annotations": {"list": _marks() if dashboard.marks else []},
        "panels": _placed(dashboard.rows),
    }


def _placed(rows: tuple[tuple[Panel, ...], ...]) -> list[Json]:
    panels, top, number = [], 0, 0
    for row in rows:
        left = 0
        for panel in row:
            number += 1
            where = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            panels.append(_panel(panel, number, where))
            left += panel.width
        assert left <= COLUMNS, f"a row is {left} wide: {row[0].title}"
        top += max(panel.height for panel in row)
    return panels


def _panel(panel: Panel, number: int, where: Json) -> Json:
    made: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "gridPos": where,
    }
    if panel.kind == "text":
        return made | {"options": {"mode": "markdown", "content": panel.text}}
    made |= {
        "datasource": DATASOURCE,
        "targets": [_target(query, index, panel) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
    }
    if panel.kind == "table":
        made["transformations"] = _table_shape(panel)
    if panel.repeat:
        made |= {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 2}
    return made


def _target(query: Query, index: int, panel: Panel) -> Json:
    return {
        "refId": chr(ord("A") + index),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> Json:
    defaults: Json = {
        "color": {"mode": _colouring(panel)},
        "custom": _custom(panel),
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
        "mappings": _mappings(panel),
    }
    if panel.unit:
        defaults["unit"] = panel.unit
    if panel.links:
        defaults["links"] = [
            {"title": title, "url": url, "targetBlank": url.startswith("${watchstep}")}
            for title, url in panel.links
        ]
    return defaults


def _colouring(panel: Panel) -> str:
    plain = panel.kind == "timeseries" and not panel.zones
    return "palette-classic" if plain else "thresholds"


def _custom(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        # A gap is a gap: a line drawn over it would say that a NaN or a silence was a number.
        return {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 5,
            "spanNulls": False,
            "showPoints": "auto",
            "pointSize": 4,
        }
    if panel.kind == "state-timeline":
        return {"fillOpacity": 80, "lineWidth": 0}
    if panel.kind == "table":
        return {"align": "auto", "cellOptions": {"type": "auto"}}
    return {}


def _steps(panel: Panel) -> list[Json]:
    if panel.zones:
        edges = (None, 1, 2, 3)
        return [
            {"color": colour, "value": edge} for (_, colour), edge in zip(ZONES, edges, strict=True)
        ]
    steps: list[Json] = [{"color": PLAIN, "value": None}]
    if panel.alarm is not None:
        steps.append({"color": BAD, "value": panel.alarm})
    return steps


def _mappings(panel: Panel) -> list[Json]:
    if not panel.zones:
        return [NAN]
    names = {
        str(value): {"text": name, "color": colour, "index": value}
        for value, (name, colour) in enumerate(ZONES)
    }
    return [{"type": "value", "options": names}, NAN]


def _overrides(panel: Panel) -> list[Json]:
    """Colours of a table stand in its zone column only."""
    if panel.kind != "table" or not panel.zones:
        return []
    return [
        {
            "matcher": {"id": "byRegexp", "options": "^(?!worst zone|zone).*$"},
            "properties": [
                {"id": "mappings", "value": [NAN]},
                {"id": "color", "value": {"mode": "fixed"}},
            ],
        },
        {
            "matcher": {"id": "byRegexp", "options": "^(worst zone|zone)$"},
            "properties": [{"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        },
        {
            "matcher": {"id": "byRegexp", "options": "silent"},
            "properties": [{"id": "unit", "value": "s"}],
        },
    ]


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "percentChangeColorMode": "standard",
            "showPercentChange": False,
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "name" if panel.names else "auto",
            "wideLayout": True,
        }
    if panel.kind == "timeseries":
        return {
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
                "calcs": [],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "state-timeline":
        return {
            "showValue": "never",
            "rowHeight": 0.9,
            "mergeValues": True,
            "alignValue": "left",
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": False,
                "calcs": [],
            },
            "tooltip": {"mode": "single", "sort": "none"},
        }
    return {"showHeader": True, "cellHeight": "sm", "frameIndex": 0}


def _table_shape(panel: Panel) -> list[Json]:
    """Join the queries' rows by their labels, and name the columns."""
    return [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": dict.fromkeys(("Time", *panel.hidden), True),
                "renameByName": dict(panel.renamed),
                "indexByName": {},
            },
        },
    ]


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "regex": "",
    }


def _variable(variable: Variable) -> Json:
    made: Json = {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"qryType": 5, "query": variable.query, "refId": f"Variable-{variable.name}"},
        "refresh": 2,
        "sort": 7,
        "hide": 0,
        "includeAll": variable.many,
        "multi": variable.many,
        "options": [],
        "regex": "",
    }
    if variable.many:
        made["current"] = {"text": ["All"], "value": ["$__all"]}
        # Not ".*": a series without the label would match that too.
        made["allValue"] = ".+"
    return made


def _page() -> Json:
    """Where people reach the service's own page: a box, since no JSON can know it."""
    address = "http://localhost:8420"
    return {
        "name": "watchstep",
        "label": "Page at",
        "type": "textbox",
        "query": address,
        "current": {"text": address, "value": address},
        "options": [{"text": address, "value": address, "selected": True}],
        "hide": 0,
    }


def _links() -> list[Json]:
    page: Json = {
        "title": "watchstep page",
        "type": "link",
        "url": "${watchstep}",
        "icon": "external link",
        "tooltip": "The service's own page",
        "targetBlank": True,
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "tags": [],
    }
    others = page | {
        "title": "Dashboards",
        "type": "dashboards",
        "url": "",
        "tooltip": "",
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
        "tags": ["watchstep"],
    }
    return [page, others]


def _marks() -> list[Json]:
    """Alerts of the chosen runs as regions on every chart."""
    return [
        {
            "name": "Alerts",
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": BAD,
            "target": {
                "refId": "Alerts",
                "expr": 'max by (run, rule, severity) (watchstep_alert_firing{run=~"$run"})',
                "interval": "10s",
            },
            "titleFormat": "{{rule}}",
            "textFormat": "{{run}}",
            "tagKeys": "severity",
            "useValueForTime": False,
        }
    ]
