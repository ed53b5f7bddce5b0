"""The four dashboards, described. `generate.py` writes their JSON.

Replicas of the service each show every run, so whatever is about a run is aggregated over
`instance` before it is shown.
"""

from __future__ import annotations

from functools import partial

from shapes import Dashboard, Panel, Query, Variable

PROJECT = Variable("project", "Project", "label_values(watchstep_run_step, project)", many=True)
RUNS = Variable(
    "run", "Run", 'label_values(watchstep_run_step{project=~"$project"}, run)', many=True
)
RUN = Variable("run", "Run", "label_values(watchstep_run_step, run)")
METRIC = Variable(
    "metric", "Metric", 'label_values(watchstep_run_reading{run=~"$run"}, metric)', many=True
)

# Addresses take the row's or the series' own run.
ROW, SERIES = "${__data.fields.run}", "${__field.labels.run}"


def _ways(run: str) -> tuple[tuple[str, str], ...]:
    """From a value that belongs to a run to where one reads on."""
    return (
        ("Run", f"/d/watchstep-run?${{datasource:queryparam}}&var-run={run}"),
        ("Incident", f"/d/watchstep-incident?${{datasource:queryparam}}&var-run={run}"),
        ("Its page", f"${{watchstep}}/runs/{run}"),
    )


_CHOSEN = 'run=~"$run", project=~"$project"'

_MACHINE = 'max by (metric) (watchstep_run_reading{run=~"$run", metric=~"system/%s"})'

_FIRING_NOW = Panel(
    "table",
    "Alerts that fire",
    "Every alert that fires now, as the service found it. Empty is good.",
    (
        Query(
            'max by (run, rule, metric, severity) (watchstep_alert_firing{run=~"$run"})',
            instant=True,
        ),
    ),
    links=_ways(ROW),
    hidden=("Value",),
)

FLEET = Dashboard(
    uid="watchstep-fleet",
    title="watchstep / Fleet",
    about="All runs: which one needs somebody.",
    variables=(PROJECT, RUNS),
    rows=(
        (
            Panel(
                "stat",
                "Runs",
                "Runs by status, over all projects.",
                (Query("max by (status) (watchstep_runs)", "{{status}}", instant=True),),
                width=14,
                height=4,
            ),
            Panel(
                "stat",
                "Critical alerts",
                "Critical alerts that fire now.",
                (
                    Query(
                        "count(max by (run, rule) "
                        '(watchstep_alert_firing{severity="critical", run=~"$run"})) or vector(0)',
                        "critical",
                        instant=True,
                    ),
                ),
                width=5,
                height=4,
                alarm=1,
            ),
            Panel(
                "stat",
                "Updates a second",
                "Updates stored a second, over all runs.",
                (Query("sum(rate(watchstep_updates_total[$__rate_interval]))", "updates/s"),),
                width=5,
                height=4,
                unit="ops",
            ),
        ),
        (
            Panel(
                "table",
                "Runs that are shown",
                "One row a run. Ended runs leave a while after their end. Sorted by nothing: "
                "click a column.",
                (
                    Query(f"max by (run, project) (watchstep_run_zone{{{_CHOSEN}}})", instant=True),
                    Query(f"max by (run, project) (watchstep_run_step{{{_CHOSEN}}})", instant=True),
                    Query(
                        f"max by (run, project) (watchstep:run_silence_seconds{{{_CHOSEN}}})",
                        instant=True,
                    ),
                    Query(
                        f"max by (run, project, status) (watchstep_run_status{{{_CHOSEN}}}) == 1",
                        instant=True,
                    ),
                    Query(
                        "max by (run, project) "
                        f"(watchstep:run_nonfinite_readings:count{{{_CHOSEN}}})",
                        instant=True,
                    ),
                    Query(
                        f"max by (run, project, health) (watchstep_run_health{{{_CHOSEN}}}) == 1",
                        instant=True,
                    ),
                ),
                width=24,
                height=9,
                zones=True,
                links=_ways(ROW),
                hidden=("Value #D", "Value #F"),
                renamed=(
                    ("Value #A", "worst zone"),
                    ("Value #B", "step"),
                    ("Value #C", "silent"),
                    ("Value #E", "non-finite readings"),
                ),
            ),
        ),
        (
            Panel(
                "state-timeline",
                "Worst zone of each run",
                "How bad the worst of a run's readings is.",
                (Query(f"max by (run) (watchstep:run_worst_zone{{{_CHOSEN}}})", "{{run}}"),),
                zones=True,
                links=_ways(SERIES),
            ),
            _FIRING_NOW,
        ),
        (
            Panel(
                "timeseries",
                "Steps a second",
                "How fast each trainer's own step counter moves. Falls to 0 where a run hangs.",
                (
                    Query(
                        f"max by (run) (deriv(watchstep_run_step{{{_CHOSEN}}}[$__rate_interval]))",
                        "{{run}}",
                    ),
                ),
                width=8,
                links=_ways(SERIES),
            ),
            Panel(
                "timeseries",
                "Silence",
                "Seconds since the service last heard of each run under way.",
                (Query(f"watchstep:run_silence_seconds{{{_CHOSEN}}}", "{{run}}"),),
                width=8,
                unit="s",
                links=_ways(SERIES),
            ),
            Panel(
                "timeseries",
                "Updates lost",
                "Updates that never arrived, over the last 15 minutes. Rules then judge an "
                "incomplete series.",
                (Query(f"watchstep:run_lost_updates:increase15m{{{_CHOSEN}}}", "{{run}}"),),
                width=8,
                links=_ways(SERIES),
            ),
        ),
    ),
)

_ALERTS_OVER_TIME = Panel(
    "state-timeline",
    "Alerts over time",
    "A bar for as long as an alert fires. It holds while the reading is NaN.",
    (
        Query(
            'max by (rule, metric, severity) (watchstep_alert_firing{run=~"$run"})',
            "{{rule}} {{metric}}",
        ),
    ),
    alarm=1,
)
_ZONES_OVER_TIME = Panel(
    "state-timeline",
    "Zones over time",
    "Every metric that has zones.",
    (Query('max by (metric) (watchstep_run_zone{run=~"$run"})', "{{metric}}"),),
    zones=True,
)
_NOT_NUMBERS = Panel(
    "state-timeline",
    "Readings that are no numbers",
    "1 where the reading was NaN or infinite. Charts cannot draw those: they show a gap.",
    (
        Query(
            'max by (metric) ((watchstep_run_reading{run=~"$run"} != bool '
            'watchstep_run_reading{run=~"$run"}) + '
            '(abs(watchstep_run_reading{run=~"$run"}) == bool +Inf))',
            "{{metric}}",
        ),
    ),
    alarm=1,
)


def _now(expr: str, legend: str) -> tuple[Query, ...]:
    return (Query(expr, legend, instant=True),)


# A single number in the top row.
_number = partial(Panel, "stat", width=4, height=4)


_HEAD = (
    _number(
        "Status",
        "As the service sees it now.",
        _now('max by (status) (watchstep_run_status{run=~"$run"}) == 1', "{{status}}"),
        names=True,
        width=3,
    ),
    _number(
        "Health",
        "What the numbers of the present attempt are.",
        _now('max by (health) (watchstep_run_health{run=~"$run"}) == 1', "{{health}}"),
        names=True,
        width=3,
    ),
    _number(
        "Step",
        "The trainer's own counter.",
        _now('max(watchstep_run_step{run=~"$run"})', "step"),
        width=3,
    ),
    _number(
        "Worst zone",
        "Of all readings, now.",
        _now('max(watchstep_run_zone{run=~"$run"})', "zone"),
        zones=True,
    ),
    _number(
        "Last heard",
        "When the service last heard of the run.",
        _now('max(watchstep_run_last_heard_timestamp_seconds{run=~"$run"}) * 1000', "heard"),
        unit="dateTimeFromNow",
    ),
    _number(
        "Alerts that fire",
        "All severities.",
        _now(
            'count(max by (rule, metric) (watchstep_alert_firing{run=~"$run"})) or vector(0)',
            "alerts",
        ),
        alarm=1,
        width=3,
    ),
    _number(
        "Updates lost",
        "Since the run began.",
        _now('max(watchstep_run_lost_updates_total{run=~"$run"})', "lost"),
        alarm=1,
    ),
)

ONE_RUN = Dashboard(
    uid="watchstep-run",
    title="watchstep / Run",
    about="One run: its readings, zones and alerts.",
    variables=(RUN, METRIC),
    rows=(
        _HEAD,
        (_ZONES_OVER_TIME, _ALERTS_OVER_TIME),
        (
            Panel(
                "timeseries",
                "$metric",
                "The newest reading at each scrape. The page shows every update.",
                (
                    Query(
                        'max by (metric) (watchstep_run_reading{run=~"$run", metric=~"$metric"})',
                        "{{metric}}",
                    ),
                ),
                width=12,
                repeat="metric",
                links=(("Its page", "${watchstep}/runs/${run}"),),
            ),
        ),
        (
            _NOT_NUMBERS,
            Panel(
                "timeseries",
                "Steps a second",
                "How fast the trainer's own step counter moves.",
                (
                    Query(
                        'max(deriv(watchstep_run_step{run=~"$run"}[$__rate_interval]))', "steps/s"
                    ),
                ),
            ),
        ),
        (
            Panel(
                "timeseries",
                "Machine and GPUs, how full",
                "Shares of memory, disk and devices in use, 0 to 1. Where `system=True` or "
                "`watchstep run` tells them.",
                (Query(_MACHINE % ".*(used_share|utilization)", "{{metric}}"),),
                unit="percentunit",
            ),
            Panel(
                "timeseries",
                "GPUs, hot and hungry",
                "Degrees Celsius and watts of each device.",
                (Query(_MACHINE % "gpu.*(celsius|watts)", "{{metric}}"),),
            ),
        ),
    ),
)

INCIDENT = Dashboard(
    uid="watchstep-incident",
    title="watchstep / Incident",
    about="One run in trouble: what fired, when, on which readings, and who was told.",
    variables=(RUN,),
    rows=(
        _HEAD,
        (
            Panel(
                "text",
                "Read on",
                "Where the story is told.",
                width=6,
                height=7,
                text="Stages, diagnosis with its evidence, the last good checkpoint and what to "
                "do next stand on the [page of this run](${watchstep}/runs/${run}).\n\n"
                "Its readings stand on the [run's dashboard](/d/watchstep-run?var-run=${run}).",
            ),
            Panel(
                "table",
                _FIRING_NOW.title,
                _FIRING_NOW.about,
                _FIRING_NOW.queries,
                width=18,
                height=7,
                links=_FIRING_NOW.links,
                hidden=_FIRING_NOW.hidden,
            ),
        ),
        (_ALERTS_OVER_TIME, _ZONES_OVER_TIME),
        (
            Panel(
                "table",
                "Readings outside of ok",
                "The newest reading of every metric whose zone is not ok.",
                (
                    Query('max by (metric) (watchstep_run_zone{run=~"$run"}) > 0', instant=True),
                    Query(
                        'max by (metric) (watchstep_run_reading{run=~"$run"}) and on (metric) '
                        'max by (metric) (watchstep_run_zone{run=~"$run"}) > 0',
                        instant=True,
                    ),
                ),
                zones=True,
                renamed=(("Value #A", "zone"), ("Value #B", "reading")),
            ),
            _NOT_NUMBERS,
        ),
        (
            Panel(
                "timeseries",
                "Messages by result",
                "Attempts at telling people, over all runs: delivered, retry, dead, gone.",
                (
                    Query(
                        "sum by (receiver, result) (watchstep_deliveries_total)",
                        "{{receiver}} {{result}}",
                    ),
                ),
            ),
            Panel(
                "timeseries",
                "Messages that wait",
                "Deliveries still to be made, over all runs.",
                (Query('max(watchstep_outbox_depth{state="waiting"})', "waiting"),),
            ),
        ),
    ),
)


def _quantiles(metric: str) -> tuple[Query, ...]:
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket[$__rate_interval])))",
            f"p{share * 100:.0f}",
        )
        for share in (0.5, 0.95, 0.99)
    )


_UPDATES = (
    ("watchstep_updates_total", "stored"),
    ("watchstep_updates_duplicate_total", "duplicate"),
    ("watchstep_updates_rejected_total", "refused"),
)

SERVICE = Dashboard(
    uid="watchstep-service",
    title="watchstep / Service health",
    about="The service itself: taking updates, committing, judging, telling.",
    variables=(),
    marks=False,
    rows=(
        (
            _number("Replicas up", "Processes that answer a scrape.",
                    _now("count(watchstep_build_info)", "replicas")),
            _number("Version", "What runs.",
                    _now("count by (version) (watchstep_build_info)", "{{version}}"), names=True),
            _number("Up for", "The youngest process.",
                    _now("time() - max(process_start_time_seconds "
                         "and on (instance, job) watchstep_build_info)", "uptime"), unit="s"),
            _number("Messages given up", "Dead deliveries; each can be sent again.",
                    _now('max(watchstep_outbox_depth{state="dead"})', "dead"), alarm=1),
            _number("Receivers gone", "Receivers that answered that they are gone.",
                    _now("sum(max by (receiver) (watchstep_receiver_disabled))", "gone"), alarm=1),
            _number("Series dropped", "Left out of /metrics by a cap, since the start.",
                    _now("sum(watchstep_series_dropped_total)", "dropped"), alarm=1),
        ),
        (
            Panel("timeseries", "Updates", "Stored, known already, and refused, a second.",
                  tuple(Query(f"sum(rate({metric}[$__rate_interval]))", legend)
                        for metric, legend in _UPDATES), unit="ops"),
            Panel("timeseries", "Ingest", "From a request's whole body to its answer. No line "
                  "while nothing comes in.", _quantiles("watchstep_ingest_seconds"), unit="s"),
        ),
        (
            Panel("timeseries", "Commits", "One group commit, synced to the disk.",
                  _quantiles("watchstep_commit_seconds"), unit="s"),
            Panel("timeseries", "Updates in a commit", "How much a commit gathers.",
                  _quantiles("watchstep_commit_updates")),
        ),
        (
            Panel("timeseries", "Outbox", "Messages by state.",
                  (Query("max by (state) (watchstep_outbox_depth)", "{{state}}"),)),
            Panel("timeseries", "Deliveries", "Attempts by receiver and result, in all.",
                  (Query("sum by (receiver, result) (watchstep_deliveries_total)",
                         "{{receiver}} {{result}}"),)),
        ),
        (
            Panel("timeseries", "Time of a delivery", "One attempt, connect to last byte.",
                  _quantiles("watchstep_delivery_seconds"), unit="s"),
            Panel("timeseries", "Alerts", "Alerts that entered a state, in all.",
                  (Query("sum by (severity, state) (watchstep_alerts_total)",
                         "{{severity}} {{state}}"),)),
        ),
        (
            Panel("timeseries", "Rule loads", "Attempts to load the rules, by result.",
                  (Query("sum by (result) (watchstep_rules_reloads_total)", "{{result}}"),),
                  width=8),
            Panel("timeseries", "Outbox errors", "Failed reads and writes of the outbox.",
                  (Query("sum(watchstep_delivery_worker_errors_total)", "errors"),), width=8),
            Panel("timeseries", "Scrapes", "Whether each replica was scraped.",
                  (Query('up{job=~".*watchstep.*"}', "{{instance}}"),), width=8),
        ),
        (
            Panel("timeseries", "CPU", "Cores in use.",
                  (Query("rate(process_cpu_seconds_total[$__rate_interval]) "
                         "and on (instance, job) watchstep_build_info", "{{instance}}"),), width=8),
            Panel("timeseries", "Memory", "Resident.",
                  (Query("process_resident_memory_bytes "
                         "and on (instance, job) watchstep_build_info", "{{instance}}"),),
                  width=8, unit="bytes"),
            Panel("timeseries", "Open files", "Sockets included.",
                  (Query("process_open_fds and on (instance, job) watchstep_build_info",
                         "{{instance}}"),), width=8),
        ),
    ),
)  # fmt: skip

DASHBOARDS = (FLEET, ONE_RUN, INCIDENT, SERVICE)
