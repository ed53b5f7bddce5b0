"""Every setting of the service: its unit, its default, and why it is that."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

RunEdge = Literal["finished", "preempted", "resumed"]
"""What a receiver can ask to hear of a run that has no incident."""

Scope = Literal["ingest", "read", "admin"]
ReceiverKind = Literal[
    "webhook",
    "alertmanager",
    "slack",
    "discord",
    "teams",
    "pagerduty",
    "email",
    "github",
    "script",
    "ntfy",
    "telegram",
    "pushover",
    "apprise",
]

Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
PerSecond = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Section(BaseModel):
    """A group of settings: frozen, and strict about names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RuleSettings(Section):
    """Which rules judge every run."""

    paths: tuple[str, ...] = Field(
        default=("auto",),
        description="Packs by name and rule files by path, in order. `auto` judges each run by "
        "the packs for its kind of training; files alone are added to it.",
        min_length=1,
    )


class TokenSettings(Section):
    """One bearer token, by its hash."""

    name: str = Field(
        description="For people and logs; 1 to 64 characters.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
    )
    sha256: str = Field(
        description="SHA-256 of the whole token, 64 hex digits; `watchstep token create` "
        "prints it. The token itself is never kept.",
        pattern=r"^[0-9a-f]{64}$",
    )
    scopes: tuple[Scope, ...] = Field(
        default=("ingest", "read"),
        description="What it allows: ingest (send updates), read, admin (commands, silences, "
        "acknowledgements, reload). A trainer needs the default.",
        min_length=1,
    )
    projects: tuple[str, ...] = Field(
        default=(),
        description="Projects it is limited to; empty for all, the default for one team.",
    )


class AuthSettings(Section):
    """Who may call."""

    tokens: tuple[TokenSettings, ...] = Field(
        default=(),
        description="Tokens besides those that `watchstep token create` keeps in the store. "
        "With none at all the service listens on loopback only.",
    )


class LimitSettings(Section):
    """How much one caller may send."""

    body_bytes: Count = Field(
        default=1_048_576,
        description="Bytes of a request body as sent; a batch of 100 updates of 20 metrics is "
        "70 kB.",
    )
    decompressed_bytes: Count = Field(
        default=4_194_304,
        description="Bytes of a body after gzip; four times the above, since JSON of readings "
        "packs no better.",
    )
    updates_per_batch: Count = Field(
        default=1_000,
        description="Updates a request; larger ones hold up everyone else's commit.",
    )
    metrics_per_update: Count = Field(default=256, description="Readings an update.")
    metrics_per_run: Count = Field(
        default=2_000,
        description="Distinct metric names a run; guards memory against names made of data.",
    )
    runs: Count = Field(default=100_000, description="Runs in the store.")
    event_bytes: Count = Field(
        default=16_384, description="Bytes of one event as JSON; a stack fits."
    )
    config_bytes: Count = Field(
        default=65_536, description="Bytes of a run's tags and config as JSON."
    )
    page: Count = Field(default=500, description="Most items of one page of a list.")
    series_points: Count = Field(
        default=10_000,
        description="Most points of one series answer; a screen shows 2,000.",
    )
    body_read_s: PositiveSeconds = Field(
        default=10.0,
        description="Seconds for a whole body to arrive; slower clients are cut (408).",
    )
    head_read_s: PositiveSeconds = Field(
        default=10.0,
        description="Seconds for a request's line and headers to arrive; slower clients are cut.",
    )
    requests_per_s: PerSecond = Field(
        default=1_000.0,
        description="Requests a second and token, with a burst of five seconds' worth; more are "
        "answered 429. Ten times what a hundred trainers send. Without tokens it holds for each "
        "address, and only where it is set.",
    )
    concurrency: Count = Field(
        default=1_000,
        description="Requests at work at a time; more are answered 429, but for probes and "
        "scrapes.",
    )
    connections: Count = Field(
        default=16_384,
        description="Open connections; requests over more are answered 429. Every trainer keeps "
        "one, at some 20 kB; a proxy in front needs few.",
    )
    event_streams: Count = Field(
        default=100,
        description="Open /events streams; more are answered 429, for each holds a socket.",
    )
    queued_requests: Count = Field(
        default=2_000,
        description="Batches waiting for a commit; more are answered 429.",
    )
    log_bytes: Count = Field(
        default=67_108_864,
        description="Bytes of a log that is sent for a post-mortem; a day of PPO is 10 MB as CSV.",
    )
    log_read_s: PositiveSeconds = Field(
        default=120.0,
        description="Seconds for such a log to arrive: the default size at 5 Mbit/s.",
    )
    postmortem_s: PositiveSeconds = Field(
        default=60.0,
        description="Seconds of a processor that one post-mortem may take, and at most twice as "
        "long by the clock; 100,000 updates take about 10.",
    )
    postmortems: Count = Field(
        default=2,
        description="Post-mortems made at a time, each in a process of its own; more are "
        "answered 429.",
    )
    commit_wait_s: PositiveSeconds = Field(
        default=5.0,
        description="Seconds that a batch may wait for its commit, which takes milliseconds; then "
        "it is answered 503 and, if its turn has not come yet, thrown away. Trainers wait as long.",
    )


class StallSettings(Section):
    """When a silent run is called stalled."""

    timeout_s: PositiveSeconds = Field(
        default=300.0,
        description="Seconds without a word from a running trainer, counted only while the "
        "service itself was up. Longer than any update of a sane RL run.",
    )
    check_interval_s: PositiveSeconds = Field(
        default=1.0,
        description="Seconds between looks at the clock for silent runs.",
    )


class AlertSettings(Section):
    """How alerts become messages."""

    group_wait_s: Seconds = Field(
        default=0.0,
        description="Seconds to wait for more alerts before the first message of an incident; 0 "
        "writes it in the same transaction as the update.",
    )
    group_interval_s: Seconds = Field(
        default=5.0,
        description="Least seconds between two messages of one incident while alerts join it; a "
        "rise in severity and the resolution do not wait.",
    )
    repeat_interval_s: PositiveSeconds = Field(
        default=14_400.0,
        description="Seconds between reminders of an incident that stays open (4 h).",
    )


class CommandSettings(Section):
    """Commands to trainers."""

    expire_s: PositiveSeconds = Field(
        default=600.0,
        description="Seconds after which a command that no trainer took is void: a halt must not "
        "hit someone who comes back tomorrow.",
    )


class RetentionSettings(Section):
    """How long updates are kept. Alerts, incidents and timelines are kept with their run."""

    updates_s: PositiveSeconds | None = Field(
        default=None,
        description="Seconds that the updates of an ended run are kept; unset keeps all.",
    )
    size_bytes: Count | None = Field(
        default=None,
        description="Bytes of the store above which the oldest ended runs lose updates.",
    )
    incident_window_updates: Count = Field(
        default=200,
        description="Updates kept on either side of an incident's first bad update.",
    )
    check_interval_s: PositiveSeconds = Field(
        default=300.0,
        description="Seconds between looks at what may go.",
    )


class NotifySettings(Section):
    """How notifications are sent."""

    timeout_s: PositiveSeconds = Field(
        default=10.0,
        description="Seconds for one whole attempt, connect to last byte.",
    )
    retry_base_s: PositiveSeconds = Field(
        default=1.0, description="Seconds of the first pause; doubles each time, full jitter."
    )
    retry_max_s: PositiveSeconds = Field(
        default=600.0, description="Longest pause, and longest Retry-After honoured."
    )
    max_attempts: Count = Field(
        default=100,
        description="Attempts before a delivery is given up; about eight hours of a receiver "
        "that is down.",
    )
    rate_per_minute: Count = Field(
        default=60,
        description="Messages a minute and receiver; the rest wait, nothing is lost.",
    )
    at_once: Count = Field(
        default=4, description="Messages on their way to one healthy receiver at a time."
    )
    action_links: bool = Field(
        default=True,
        description="Whether messages carry links to acknowledge, to silence for an hour and to "
        "answer. They need no login: whoever reads the message may use them.",
    )
    allow_private_cidrs: tuple[str, ...] = Field(
        default=(),
        description="Networks in private or loopback ranges that receivers may live in, such as "
        "10.1.0.0/16. None by default: a service that fetches URLs must not reach inwards.",
    )

    @field_validator("allow_private_cidrs")
    @classmethod
    def _are_networks(cls, cidrs: tuple[str, ...]) -> tuple[str, ...]:
        for cidr in cidrs:
            ipaddress.ip_network(cidr, strict=False)
        return cidrs


class ReceiverSettings(Section):
    """Somewhere a notification can go."""

    kind: ReceiverKind = Field(description="How to speak to it.")
    url: SecretStr = Field(
        default=SecretStr(""),
        description="Where: an https address; smtp:// or smtps:// for email; may be left out for "
        "pagerduty; the path of a program for script. Kept secret: chat systems put their key in "
        "it.",
    )
    secret: SecretStr | None = Field(
        default=None,
        description="Signing secret (webhook, `whsec_…`; several, separated by spaces, while "
        "rotating) or routing key (pagerduty).",
    )
    min_severity: Literal["info", "warning", "critical"] = Field(
        default="warning",
        description="Incidents below this are not sent there.",
    )
    notify_on: tuple[RunEdge, ...] = Field(
        default=(),
        description="Steps of a run's life that it also hears of: finished, preempted, resumed. "
        "Of `match` only `run` and `project` count there.",
    )
    match: tuple[str, ...] = Field(
        default=(),
        description='Matchers that all have to hold, as in Alertmanager: `project="trading"`, '
        '`rule=~"Adv.*"`.',
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> ReceiverSettings:
        if self.kind != "pagerduty" and not self.url.get_secret_value():
            raise ValueError("url is missing; only a pagerduty receiver has one of its own")
        if self.notify_on and self.kind in {"pagerduty", "alertmanager"}:
            raise ValueError(f"notify_on: {self.kind} takes alerts only")
        return self


class HeartbeatSettings(Section):
    """Who watches the watcher."""

    url: SecretStr | None = Field(
        default=None,
        description="Address that is called (POST) while the service can commit, such as a check "
        "of healthchecks.io, which tells someone when the calls stop. One for each replica.",
    )
    interval_s: PositiveSeconds = Field(default=60.0, description="Seconds between two calls.")


class LogSettings(Section):
    """What the service writes on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="info tells the story of a day in a screen.",
    )
    format: Literal["json", "console"] = Field(
        default="json",
        description="json: one object a line; console: for people.",
    )


class StoreSettings(Section):
    """How the store commits and remembers."""

    commit_interval_s: PositiveSeconds = Field(
        default=0.005,
        description="Longest that a group commit keeps gathering, seconds.",
    )
    commit_updates: Count = Field(
        default=1_024,
        description="Updates after which a group commit stops gathering; about ten batches.",
    )
    snapshot_updates: Count = Field(
        default=1_000,
        description="Updates between two snapshots of a run's rule state; what a restart replays.",
    )
    cached_runs: Count = Field(
        default=10_000,
        description="Runs whose rule state stays in memory; about 50 kB each.",
    )
    busy_timeout_s: PositiveSeconds = Field(
        default=5.0,
        description="Seconds to wait for a lock of the database.",
    )
    writers: Count = Field(
        default=4,
        description="Writing connections on PostgreSQL; SQLite always has one.",
    )
    readers: Count = Field(default=4, description="Reading connections.")


class GaugeSettings(Section):
    """What Prometheus may scrape."""

    max_runs: Count = Field(default=200, description="Runs shown, most recently heard of first.")
    max_series: Count = Field(
        default=25_000,
        description="Series shown; what goes over is counted as dropped.",
    )
    metrics_per_run: Count = Field(default=50, description="Readings shown a run.")
    keep_after_end_s: Seconds = Field(
        default=600.0,
        description="Seconds that an ended run stays visible: two scrapes at least.",
    )


class OtlpSettings(Section):
    """Readings that come by OpenTelemetry."""

    run_attribute: str = Field(
        default="service.name",
        description="The resource attribute that names the run of what is posted to /v1/metrics; "
        "every exporter sends the default (OTEL_SERVICE_NAME).",
        min_length=1,
        max_length=256,
    )


class Settings(Section):
    """Everything the service can be told."""

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; loopback, so that nothing is exposed.",
    )
    port: int = Field(default=8420, ge=0, le=65_535, description="TCP port; 0 picks a free one.")
    data_dir: Path = Field(
        default=Path("watchstep-data"),
        description="Folder of the embedded store and its backups.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`postgresql+psycopg://…` for many machines; unset keeps SQLite in data_dir.",
    )
    public_url: str | None = Field(
        default=None,
        description="Where people reach the service, for links in messages; unset uses the "
        "address it listens on, or the machine's name where that is every address.",
        pattern=r"^https?://[^\s\"'<>]+$",
    )
    rules: RuleSettings = RuleSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    stall: StallSettings = StallSettings()
    alerts: AlertSettings = AlertSettings()
    commands: CommandSettings = CommandSettings()
    retention: RetentionSettings = RetentionSettings()
    notify: NotifySettings = NotifySettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    receivers: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], ReceiverSettings
    ] = Field(default={}, description="Receivers by name.")
    log: LogSettings = LogSettings()
    store: StoreSettings = StoreSettings()
    gauges: GaugeSettings = GaugeSettings()
    otlp: OtlpSettings = OtlpSettings()
