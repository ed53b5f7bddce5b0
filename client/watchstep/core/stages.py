"""The story of an incident: its stages, when it began, and how early each rule saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from watchstep.core.diagnosis.columns import Columns
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import Transition, Update

Stage = Literal["early signs", "explosion", "divergence", "aftermath"]
STAGES: tuple[Stage, ...] = ("early signs", "explosion", "divergence", "aftermath")
EXPLOSION_UPDATES = 5
"""An explosion that has lasted this long is aftermath: the seed document's downstream effects
set in 5 updates after it."""
LEAD_UPDATES = 100
"""A warning further ahead of the damage than this is not counted as its sign."""
_ENDS = ("failed", "halted")
Held = Sequence[tuple[str, int]]
"""Rule and the update at which it began to hold, in order of firing."""


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


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to one attempt, in `Update.seq` numbers.

    Attributes:
        attempt: The attempt told of: that of the newest alert.
        first_bad_update: First update at which a rule held that later proved right, or at
            which a core reading was not finite; None when nothing bad happened.
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


def stage(rules: RuleSet, alerts: Sequence[Transition], history: Sequence[Update]) -> Stage:
    """Where an incident stands after the last update of the history.

    Args:
        rules: The set that the alerts are of.
        alerts: "firing" transitions so far.
        history: The newest updates, oldest first, events included.

    Returns:
        "early signs" while only warnings fire and every core reading is finite; "explosion"
        from the first critical alert on; "divergence" at the first core reading that is not
        finite, or at death; "aftermath" once either lies `EXPLOSION_UPDATES` back, or when
        the run ended of it.
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
    held = _held(rules, columns, mine)
    first_bad = _first_bad(columns, mine, held, damage)
    leads: tuple[Lead, ...] = ()
    if damage is not None:
        leads = _leads(columns, held, damage)
    good = [row.seq for row in columns.rows if first_bad is not None and row.seq < first_bad]
    return Story(
        attempt=attempt,
        first_bad_update=first_bad,
        last_good_update=good[-1] if good else None,
        damage_update=damage,
        phases=_phases(columns, mine, first_bad, damage, ended),
        leads=leads,
    )


def _damage(columns: Columns, history: Sequence[Update]) -> tuple[int | None, int | None]:
    """Update of the first non-finite core reading or death, and the update of death."""
    ended = [
        update.seq
        for update in history
        if update.attempt == columns.attempt
        and update.event is not None
        and update.event.get("kind") in _ENDS
    ]
    bad = columns.nonfinite()
    died = [
        update.seq
        for update in history
        if update.attempt == columns.attempt
        and update.event is not None
        and update.event.get("kind") == "failed"
    ]
    moments = ([columns.rows[bad[0]].seq] if bad else []) + died[:1]
    return (min(moments) if moments else None), (ended[0] if ended else None)


def _held(rules: RuleSet, columns: Columns, alerts: Sequence[Transition]) -> Held:
    """When each rule's condition began to hold, before its `for` was over, at each firing."""
    found = []
    for alert in alerts:
        if alert.severity != "info":
            at = rules.index.get(alert.rule)
            waited = (rules.rules[at].hold.updates or 1) - 1 if at is not None else 0
            found.append((alert.rule, columns.back(alert.seq, waited)))
    return found


def _leads(columns: Columns, held: Held, damage: int) -> tuple[Lead, ...]:
    """Each rule's earliest firing that is near enough to the damage, else its latest."""
    best: dict[str, Lead] = {}
    for rule, at in held:
        lead = Lead(rule, at, columns.between(at, damage))
        if rule not in best or best[rule].updates > LEAD_UPDATES:
            best[rule] = lead
    return tuple(sorted(best.values(), key=lambda lead: (-lead.updates, lead.rule)))


def _first_bad(
    columns: Columns,
    alerts: Sequence[Transition],
    held: Held,
    damage: int | None,
) -> int | None:
    critical = {alert.rule for alert in alerts if alert.severity == "critical"}
    proofs = [at for rule, at in held if rule in critical]
    if damage is not None:
        proofs.append(damage)
    if not proofs:
        return min((at for _, at in held), default=None)
    worst = min(proofs)
    signs = [at for _, at in held if 0 <= columns.between(at, worst) <= LEAD_UPDATES]
    return min([worst, *signs])


def _phases(
    columns: Columns,
    alerts: Sequence[Transition],
    first_bad: int | None,
    damage: int | None,
    ended: int | None,
) -> tuple[Phase, ...]:
    if first_bad is None:
        return ()
    last = max([row.seq for row in columns.rows[-1:]] + [ended or 0, first_bad])
    exploded = min((alert.seq for alert in alerts if alert.severity == "critical"), default=None)
    begins: dict[Stage, int] = {"early signs": first_bad}
    if exploded is not None and (damage is None or exploded < damage):
        begins["explosion"] = exploded
    if damage is not None:
        begins["divergence"] = damage
    after = damage if damage is not None else exploded
    if after is not None:
        over = [columns.forward(after, EXPLOSION_UPDATES)]
        if ended is not None and ended > after:
            over.append(ended)
        begins["aftermath"] = min((at for at in over if at is not None), default=last + 1)
    told = [(name, begins[name]) for name in STAGES if name in begins and begins[name] <= last]
    ends = [at - 1 for _, at in told[1:]] + [last]
    return tuple(
        Phase(name, at, end) for (name, at), end in zip(told, ends, strict=True) if at <= end
    )
