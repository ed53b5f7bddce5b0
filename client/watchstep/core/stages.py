"""The story of an incident: its stages, when it began, and how early each rule saw it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from watchstep.core.adversaries import is_adversarial
from watchstep.core.diagnosis.columns import Columns
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import Severity, Transition, Update

Stage = Literal["early signs", "explosion", "divergence", "aftermath"]
STAGES: tuple[Stage, ...] = ("early signs", "explosion", "divergence", "aftermath")
EXPLOSION_UPDATES = 5
"""An explosion that has lasted this long is aftermath: the seed document's downstream effects
set in 5 updates after it."""
STANDSTILL = frozenset({"standstill", "unlearnt"})
"""Labels `stage` of rules that say that nothing is learnt any more, or ever was in this attempt. No
number of such a run has exploded, however critical it is to know of; of the second kind no update
of the attempt was good."""
NONFINITE = "nonfinite"
"""Label `stage` of rules that say that a core reading is not finite: once it is finite again, the
weights are sound, and nothing has exploded."""
PASSING = "passing"
"""Label `stage` of rules about what may pass without harm: once it has, the run is well."""
UNMOVED = "unmoved"
"""Label `stage` of rules that say that it cannot be told yet whether anything is learnt."""
OUTCOMES = frozenset({"reward", "eval_score"})
"""Roles of what a training is for, which may be lost and won back while its numbers are sound."""
FALLING = frozenset({"loss", "eval_loss"})
"""Roles whose values fall from the start on where something is learnt."""
LEAD_UPDATES = 100
"""A warning further ahead of the damage than this is not counted as its sign."""
ONSET_UPDATES = 150
"""Updates that `onset` can make use of."""
_SETTLED = 20
"""Reports before an update that tell the level that its metric had."""
_FEW = 5
"""Reports of which the middle one tells where a loss stands."""
_DEVIATIONS = 6.0
_FAR_ABOVE = 3.0
"""Times the largest of the first few losses."""
_LEAST_SPREAD = 0.02
"""Share of the level that its spread is taken for at least: some readings hardly move."""
_REPEATS = 3
_FAR, _FLAT = 100.0, 2.5
"""Growth beside which a level may have drifted, and how far."""
_DRIFT = 0.1
"""How fast a drift may be, as a share of what follows it."""
_KNEE = 4.0
"""Deviations of the level that its end has to lie off the straight line."""
_ENDS = ("failed", "halted", "preempted")


class Mark(NamedTuple):
    """An update, and the one with readings before it.

    Attributes:
        row: Which of its attempt's updates with readings it is, from 1; an event has the newest.
        seq, step: Of the update.
        previous_seq, previous_step: Of the update with readings before it; None at the first.
    """

    row: int
    seq: int
    step: int
    previous_seq: int | None = None
    previous_step: int | None = None


class Holding(NamedTuple):
    """A rule beginning to hold before it fired.

    Attributes:
        metric: The metric that an `each` rule holds for, "" for others.
        onset: The first evidence in the readings, where it lies before `mark`, see `onset`.
        explodes: Whether numbers may have exploded: not where the alert says that nothing is
            learnt, or is about a reward or a score.
        ceased: The update at which the alert resolved; None while it fires, and in a `Story`.
    """

    rule: str
    metric: str
    severity: Severity
    mark: Mark
    onset: Mark | None = None
    explodes: bool = True
    ceased: Mark | None = None

    @property
    def first(self) -> Mark:
        return self.onset or self.mark


@dataclass(frozen=True, slots=True)
class Phase:
    """One stage of an incident.

    Attributes:
        first_update, last_update: `Update.seq`, both included.
    """

    stage: Stage
    first_update: int
    last_update: int


@dataclass(frozen=True, slots=True)
class Lead:
    """How early a rule saw what came.

    Attributes:
        updates: Updates with readings between the rule's holding and the damage; 0 when it
            held at that very update. Negative when it held only afterwards.
    """

    rule: str
    update: int
    updates: int
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to one attempt, in `Update.seq` numbers.

    Attributes:
        attempt: The attempt told of: that of the newest alert.
        first_bad_update: First evidence of an alert that later proved right, see `onset`, or the
            first update at which a core reading was not finite; None when nothing bad happened.
        last_good_update: The update with readings before it; None when there is none.
        damage_update: First update with a non-finite core reading, or at which the run died;
            None while neither has happened.
        phases: Stages in order, without gaps from the first bad update on.
        leads: One a rule, earliest first; empty without damage.
    """

    attempt: int
    first_bad_update: int | None
    last_good_update: int | None
    damage_update: int | None
    phases: tuple[Phase, ...]
    leads: tuple[Lead, ...]


def onset(
    values: Sequence[float | None],
    *,
    is_loss: bool = False,
    is_reward: bool = False,
    is_whole: bool = False,
) -> int:
    """The first evidence of what an alert shows: a rule often needs many updates to be sure.

    Args:
        values: Of the alert's metric, oldest first, None where it was not reported; the last one
            is that of the update at which the rule began to hold.
        is_loss: Whether they should only fall.
        is_reward: Whether they may be means over many episodes, which hide when these changed.
        is_whole: Whether they begin with the metric's first report.

    Returns:
        The place from which on the metric was never finite again; for a level, from which on
        it stayed on one side of the level that it had kept before, or of a loss, where that is
        too short to tell, far above all of it. Where a loss has climbed step by step, the place
        from which on it stayed above its best stretch; where a reward has only gone down since,
        the first step of that. The last place where nothing shows.
    """
    points = [(at, value) for at, value in enumerate(values) if value is not None]
    first = _left_level(points, len(values) - 1, is_loss, is_whole)
    if is_reward:
        points = [(at, -value) for at, value in points]
    elif is_loss and first == len(values) - 1:
        first = _above_best(points, first)
    if is_loss or is_reward:
        first = _already_above(points, first)
    return _after_drift(points, first)


def _left_level(
    points: Sequence[tuple[int, float]], last: int, is_loss: bool, is_whole: bool
) -> int:
    """From where on a metric lay on one side of the level that it had before."""
    first = last
    low, high = math.inf, -math.inf
    for place in range(len(points) - 1, max(len(points) - 1 - LEAD_UPDATES, -1), -1):
        at, value = points[place]
        if math.isfinite(value):
            low, high = min(low, value), max(high, value)
        if low > high:
            first = at
            continue
        before = points[place - 1][1] if place else math.nan
        if not (before < low or before > high):
            continue  # The one before is no better, so that it began earlier, if here at all.
        earlier = [value for _, value in points[max(place - _SETTLED, 0) : place]]
        level = _level(earlier)
        if level is None and is_loss and is_whole:
            level = -math.inf, _FAR_ABOVE * max(map(abs, earlier))
        falls = level is not None and high < level[0]
        if is_loss:
            # Downwards a loss leaves its level as it is learnt; what repeats is no such thing.
            falls = low == high and all(later == value for _, later in points[place + 1 :])
            falls = falls and len(points) - place >= _REPEATS
        if falls or (level is not None and low > level[1]):
            first = at
    return first


def _after_drift(points: Sequence[tuple[int, float]], first: int) -> int:
    """From where on a metric grows, or shrinks, without the slow drift or the noise before it.

    A drift is a tenth as fast as what follows. Where it ends is the report furthest off the
    straight line from the level before `first` to the most extreme report after it.
    """
    place = bisect_left(points, first, key=lambda point: point[0])
    earlier = [value for _, value in points[max(place - _SETTLED, 0) : place]]
    later = [value for _, value in points[place:]]
    series = [value for value in (*earlier, *later) if math.isfinite(value)]
    if len(series) < len(earlier) + 2 or not earlier or not all(map(math.isfinite, earlier)):
        return first
    if min(series) > 0.0:  # What grows without end does so by factors.
        series = [math.log(value) for value in series]
    before, after = series[: len(earlier)], series[len(earlier) :]
    base = _middle(before[-_FEW:])
    if abs(min(after) - base) > abs(max(after) - base):
        base, before, after = -base, [-value for value in before], [-value for value in after]
    top = max(range(len(after)), key=after.__getitem__)
    rise = (after[top] - base) / (top + 1)
    depths = [base + rise * (at + 1) - value for at, value in enumerate(after[: top + 1])]
    end = max(range(top + 1), key=depths.__getitem__)
    noise = _middle([abs(value - _middle(before)) for value in before])
    drift = (after[end] - base) / (end + 1)
    is_slow = drift * (top - end) <= _DRIFT * (after[top] - after[end])
    inside = max(at for at, value in enumerate(after) if value <= max(after[: end + 1]))
    if not is_slow or depths[end] <= _KNEE * noise or inside - end >= _FEW // 2:
        return first
    return points[place + inside + 1][0]


def _above_best(points: Sequence[tuple[int, float]], last: int) -> int:
    """From where on a loss stayed above the stretch of `_SETTLED` reports in which it was best."""
    if not points or not math.isfinite(points[-1][1]):
        return last
    stretches = [
        [value for _, value in points[at : at + _SETTLED]]
        for at in range(len(points) - _SETTLED + 1)
    ]
    levels = [level for stretch in stretches if (level := _level(stretch)) is not None]
    highest = min(levels, key=sum, default=(0.0, math.inf))[1]
    place = next((at for at in range(len(points) - 1, -1, -1) if points[at][1] <= highest), None)
    return last if place is None else points[min(place + 1, len(points) - 1)][0]


def _already_above(points: Sequence[tuple[int, float]], first: int) -> int:
    """From where on a loss that left its level at `first` was worse than all of its best stretch.

    Noise that grows with the loss hides that for single reports, so of five the middle one counts.
    Beside a growth by orders of magnitude what lay within the reports before it was level.
    """
    before = [value for at, value in points if at < first]
    length = _SETTLED if len(before) >= 2 * _SETTLED else _FEW
    stretches = [before[at : at + length] for at in range(len(before) - length + 1)]
    best = min(((_middle(stretch), max(stretch)) for stretch in stretches), default=None)
    highest = math.inf if best is None else best[1]
    place = len(before)
    while place >= _FEW and _middle(before[place - _FEW : place]) > highest:
        place -= 1
    while place > 0 and before[place - 1] > highest:
        place -= 1
    values = [value for _, value in points]
    level = _FLAT * best[0] if best and max(values) > _FAR * best[0] > 0.0 else -math.inf
    for at in range(max(place, 1), len(before)):
        highest = min(level, max(values[max(at - _SETTLED, 0) : at]))
        if _middle(values[at : at + _FEW]) <= highest or (at == place and values[at] <= highest):
            place = at + 1
    return points[place][0] if place < len(before) else first


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _level(values: Sequence[float]) -> tuple[float, float] | None:
    """Between which values a metric was settled; None where too few are finite to tell."""
    finite = sorted(value for value in values if math.isfinite(value))
    if len(finite) < _SETTLED // 2:
        return None
    middle = finite[len(finite) // 2]
    spread = sorted(abs(value - middle) for value in finite)[len(finite) // 2]
    width = _DEVIATIONS * max(1.5 * spread, _LEAST_SPREAD * abs(middle))
    # What is never below zero shrinks by factors.
    low = middle * math.exp(-width / middle) if finite[0] > 0.0 else middle - width
    return low, middle + width


def may_only_fall(role: str, name: str) -> bool:
    """Whether a metric falls as something is learnt; an adversary's loss has a level of its own."""
    return role in FALLING and not is_adversarial(name)


def may_climb(role: str, reading: float) -> bool:
    """Whether a metric's rise before an alert is evidence of it.

    Before a NaN it is where something is lost by growing: the KL of a VAE rises as it learns.
    """
    return math.isfinite(reading) or role in FALLING | {"grad_norm", "value"}


def first_bad(
    holdings: Iterable[Holding], damage: Mark | None, *, lost: bool = False
) -> Mark | None:
    """The first sign of what came: of the unbroken stretch that ends in the loss of the run.

    Args:
        holdings: Of one attempt; those of severity info do not count.
        damage: The first update whose core readings were lost, or at which the run died.
        lost: Whether the readings were lost.

    Returns:
        The earliest warning within `LEAD_UPDATES` before the damage or the first critical
        holding, or that itself; what has not been learnt since is bad however long ago it began;
        without either the earliest warning; None without any. What has
        passed, and long enough for a level to settle, does not count, nor an outcome where
        numbers have exploded.
    """
    serious = [holding for holding in holdings if holding.severity != "info"]
    if lost or any(holding.explodes for holding in _proofs(serious, damage)):
        serious = [holding for holding in serious if holding.explodes]
    proofs = [holding.first for holding in _proofs(serious, damage)]
    if damage is not None:
        proofs.append(damage)
    if not proofs:
        return min((holding.first for holding in serious), default=None)
    worst = min(proofs)
    signs = [
        holding.first
        for holding in serious
        if holding.first <= worst
        and (worst.row - holding.first.row <= LEAD_UPDATES or not holding.explodes)
        and (holding.ceased is None or worst.row - holding.ceased.row <= _SETTLED)
    ]
    return min([worst, *signs])


def _proofs(holdings: Iterable[Holding], damage: Mark | None) -> list[Holding]:
    """The critical ones that lasted to the end; those that passed where none did."""
    critical = [holding for holding in holdings if holding.severity == "critical"]
    lasting = [
        holding
        for holding in critical
        if holding.ceased is None or (damage is not None and holding.ceased.row >= damage.row)
    ]
    return lasting if lasting or damage is not None else critical


def leads(holdings: Iterable[Holding], damage: Mark) -> tuple[Lead, ...]:
    """Each rule's earliest holding that is near enough to the damage, else its latest."""
    best: dict[tuple[str, str], Lead] = {}
    for rule, metric, severity, mark, *_ in holdings:
        if severity == "info":
            continue
        lead = Lead(rule, mark.seq, damage.row - mark.row, metric)
        if (rule, metric) not in best or best[rule, metric].updates > LEAD_UPDATES:
            best[rule, metric] = lead
    return tuple(sorted(best.values(), key=lambda lead: (-lead.updates, lead.rule, lead.metric)))


def stage_of(row: int, exploded: int | None, damage: int | None, *, ended: bool) -> Stage:
    """Where an incident stands, in rows of its attempt.

    Args:
        exploded: The first one with a critical alert about a reading.
        damage: The first one whose core readings were lost, or at which the run died.
        ended: Whether the trainer has said that it stopped.

    Returns:
        "early signs" while only warnings fire and every core reading is finite; "explosion"
        from the first critical alert on; "divergence" at the damage; "aftermath" once either lies
        `EXPLOSION_UPDATES` back, or when the run has ended.
    """
    since = damage if damage is not None else exploded
    if ended or (since is not None and row - since >= EXPLOSION_UPDATES):
        return "aftermath"
    if damage is not None:
        return "divergence"
    return "early signs" if exploded is None else "explosion"


def stage(rules: RuleSet, alerts: Sequence[Transition], history: Sequence[Update]) -> Stage:
    """Where an incident stands after the last update of the history, see `stage_of`.

    Args:
        rules: The set that the alerts are of.
        alerts: "firing" transitions so far.
        history: The newest updates, oldest first, events included.
    """
    phases = story(rules, alerts, history).phases
    return phases[-1].stage if phases else "early signs"


def story(rules: RuleSet, alerts: Sequence[Transition], history: Sequence[Update]) -> Story:
    """Tell what happened, from readings, events and alerts alone.

    Args:
        rules: The set that the alerts are of; its `for` tells when a rule first held.
        alerts: "firing" transitions so far. Others are ignored.
        history: The newest updates of the run, oldest first, events included.
    """
    columns = Columns(rules, history, alerts)
    attempt = columns.attempt
    mine = [alert for alert in alerts if alert.attempt == attempt and alert.change == "firing"]
    damage, ended = _damage(columns, history)
    holdings = _holdings(rules, columns, mine)
    critical = [
        holding.mark.seq
        for holding in holdings
        if holding.severity == "critical" and rules.stage_label(holding.rule) not in STANDSTILL
    ]
    nonfinite = columns.nonfinite()
    lost_at = None if nonfinite is None else columns.rows[nonfinite[0]].seq
    lost = damage is not None and damage.seq == lost_at
    bad = first_bad(holdings, damage, lost=lost)
    return Story(
        attempt=attempt,
        first_bad_update=None if bad is None else bad.seq,
        last_good_update=None if bad is None else bad.previous_seq,
        damage_update=None if damage is None else damage.seq,
        phases=_phases(columns, critical, bad, damage, ended),
        leads=() if damage is None else leads(holdings, damage),
    )


def _mark(columns: Columns, seq: int) -> Mark:
    rows = columns.rows
    row = bisect_right(rows, seq, key=lambda update: update.seq)
    before = bisect_left(rows, seq, key=lambda update: update.seq)
    step = rows[row - 1].step if row else 0
    if not before:
        return Mark(row, seq, step)
    return Mark(row, seq, step, rows[before - 1].seq, rows[before - 1].step)


def _damage(columns: Columns, history: Sequence[Update]) -> tuple[Mark | None, int | None]:
    """The first non-finite core reading or death, and the update of the end."""
    ends = [
        (update.seq, str(update.event.get("kind")))
        for update in history
        if update.attempt == columns.attempt
        and update.event is not None
        and update.event.get("kind") in _ENDS
    ]
    nonfinite = columns.nonfinite()
    moments = [columns.rows[nonfinite[0]].seq] if nonfinite else []
    moments += [seq for seq, kind in ends if kind == "failed"][:1]
    damage = _mark(columns, min(moments)) if moments else None
    return damage, (ends[0][0] if ends else None)


def _holdings(rules: RuleSet, columns: Columns, alerts: Sequence[Transition]) -> list[Holding]:
    """When each rule's condition began to hold, before its `for` was over, at each firing."""
    holdings = []
    for alert in alerts:
        at = rules.index.get(alert.rule)
        waited = (rules.rules[at].hold.updates or 1) - 1 if at is not None else 0
        stage = rules.stage_label(alert.rule)
        if stage == "unlearnt":
            waited = len(columns)
        mark = _mark(columns, columns.back(alert.seq, waited))
        column = columns.column(alert.metric)[max(mark.row - ONSET_UPDATES, 0) : mark.row]
        whole, role = len(column) == mark.row, rules.role(alert.metric)
        place = len(column)
        if alert.metric and alert.severity != "info" and may_climb(role, alert.reading):
            place = onset(
                column,
                is_loss=may_only_fall(role, alert.metric),
                is_reward=role == "reward",
                is_whole=columns.is_whole and whole,
            )
        row = mark.row - len(column) + place
        first = _mark(columns, columns.rows[row].seq) if place < len(column) - 1 else mark
        explodes = stage not in STANDSTILL and role not in OUTCOMES
        holdings.append(Holding(alert.rule, "", alert.severity, mark, first, explodes))
    return holdings


def _phases(
    columns: Columns,
    critical: Sequence[int],
    bad: Mark | None,
    damage: Mark | None,
    ended: int | None,
) -> tuple[Phase, ...]:
    if bad is None:
        return ()
    last = max([row.seq for row in columns.rows[-1:]] + [ended or 0, bad.seq])
    exploded = _mark(columns, min(critical)).row if critical else None
    seqs = {bad.seq, last, *(update.seq for update in columns.rows if update.seq > bad.seq)}
    phases: list[Phase] = []
    for seq in sorted(seqs):
        row = bisect_right(columns.rows, seq, key=lambda update: update.seq)
        word = stage_of(
            row,
            None if exploded is None or row < exploded else exploded,
            None if damage is None or seq < damage.seq else damage.row,
            # A run that ends of what happened in that very update is told by that.
            ended=ended is not None and seq >= ended and (damage is None or ended > damage.seq),
        )
        if phases and phases[-1].stage == word:
            phases[-1] = Phase(word, phases[-1].first_update, seq)
        else:
            phases.append(Phase(word, seq, seq))
    ends = [phase.first_update - 1 for phase in phases[1:]] + [last]
    return tuple(
        Phase(phase.stage, phase.first_update, end) for phase, end in zip(phases, ends, strict=True)
    )
