"""From the YAML of a rule file to rules, zones and names, with every mistake in it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, TypeVar

from watchstep.core.compiling import SUBJECT
from watchstep.core.grammar import parse, parse_span
from watchstep.core.roles import FAMILIES, ROLES
from watchstep.core.rules import AT_ONCE, ONE_UPDATE, ZONE_NAMES, Alias, Bands, Rule, RuleFile
from watchstep.core.silence import clocked
from watchstep.core.spans import Span
from watchstep.core.updates import SEVERITIES, Action
from watchstep.errors import RuleError
from watchstep.rules.strict_yaml import Mapped, read

_ROOT_KEYS = ("groups", "zones", "aliases", "roles", "family")
_GROUP_KEYS = ("name", "rules")
_RULE_KEYS = (
    "alert",
    "formerly",
    "each",
    "expr",
    "for",
    "keep_firing_for",
    "clear",
    "unless",
    "warmup",
    "on_nan",
    "where",
    "inhibited_by",
    "labels",
    "action",
    "annotations",
)
_ZONE_KEYS = ("metric", "edges", "names", "of", "beside", "fallback", "by_rules")
_ALIAS_KEYS = ("metric", "names", "factor")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ANY = {"alert": "Any", "expr": "any > 0"}
"""What no rule can be without, to read on behind a mistake in it."""

MOST_RULES = 1_000
_Read = TypeVar("_Read")


def examine(
    text: bytes, source: str, parsed: Mapped | None = None
) -> tuple[RuleFile, list[RuleError]]:
    """What can be read of a rule file, and every mistake in it in order of lines.

    Args:
        text: As for `read_text`.
        source: What the mistakes call it.
        parsed: What `strict_yaml.read` makes of the text, where that is known already.
    """
    mistakes: list[RuleError] = []

    def each(read_one: Callable[[Mapped], _Read], entries: Iterable[Mapped]) -> list[_Read]:
        errors = []
        for entry in entries:
            try:
                errors.append(read_one(entry))
            except RuleError as error:
                mistakes.append(error)
        return errors

    rules: list[Rule] = []
    bands: list[Bands] = []
    aliases: list[list[Alias]] = []
    roles: dict[str, str] = {}
    family: str = ""
    try:
        root = parsed or read(text, source)
        for group in root.mappings("groups"):
            each(_check_group, [group])
            for entry in group.mappings("rules"):
                rule, errors = _examined(entry, str(group.values.get("name")))
                rules += [] if rule is None else [rule]
                mistakes += errors
        bands = each(_bands, root.mappings("zones"))
        aliases = each(_aliases, root.mappings("aliases"))
        roles = _roles(root)
        family = _choice(root, "family", root.text("family", ""), ("", *sorted(FAMILIES)))
        root.refuse_unknown(_ROOT_KEYS, "a rule file")
    except RuleError as error:
        mistakes.append(error)
    mistakes += _repeated(rules, source)
    named = tuple(alias for aliase in aliases for alias in aliase)
    file = RuleFile(source, tuple(rules), tuple(bands), named, roles, family)
    return file, sorted(mistakes, key=lambda error: error.line)


def _check_group(group: Mapped) -> None:
    group.refuse_unknown(_GROUP_KEYS, "a group")
    group.text("name")


def _repeated(rules: list[Rule], source: str) -> list[RuleError]:
    if len(rules) > MOST_RULES:
        return [RuleError(f"{len(rules)} rules; at most {MOST_RULES}", line=1, source=source)]
    repeated = []
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in seen:
            reason = f"rule {rule.name!r} stands on line {seen[rule.name].line} already"
            repeated.append(RuleError(reason, line=rule.line, source=source))
        seen[rule.name] = rule
    return repeated


def _examined(entry: Mapped, group: str) -> tuple[Rule | None, list[RuleError]]:
    """A rule, or every mistake in it: what is wrong is left out, and the rest read again."""
    errors: list[RuleError] = []
    while True:
        try:
            rule = _rule(entry, group)
        except RuleError as error:
            if any((error.line, error.reason) == (each.line, each.reason) for each in errors):
                return None, errors
            errors.append(error)
            if error.key == "expr":
                # What it must look at cannot be said of another expression.
                entry = entry.without("each", {})
            entry = entry.without(error.key, _ANY)
        else:
            return (None if errors else rule), errors


def _rule(entry: Mapped, group: str) -> Rule:
    entry.refuse_unknown(_RULE_KEYS, "a rule")
    name = entry.text("alert")
    if name is None or not _NAME.fullmatch(name):
        raise entry.wrong("alert", f"a rule needs a name of letters, digits and _, found {name!r}")
    labels = entry.texts("labels")
    rule = Rule(
        name=name,
        expr=_expression(entry, "expr"),
        group=group,
        severity=_choice(entry, "labels", labels.pop("severity", "warning"), SEVERITIES),
        action=_action(entry),
        hold=_span(entry, "for", ONE_UPDATE),
        keep=_span(entry, "keep_firing_for", AT_ONCE),
        clear=_expression(entry, "clear") if "clear" in entry.values else None,
        unless=_expression(entry, "unless") if "unless" in entry.values else None,
        warmup=entry.integer("warmup", 0),
        on_nan=_choice(entry, "on_nan", entry.text("on_nan", "hold"), ("hold", "fire")),
        where=entry.texts("where"),
        inhibited_by=tuple(_names(entry, "inhibited_by")),
        labels=labels,
        annotations=entry.texts("annotations"),
        source=entry.source,
        line=entry.line,
        each=_each(entry),
        formerly=tuple(_names(entry, "formerly")),
    )
    try:
        silence = clocked(rule)
    except RuleError as error:
        raise entry.wrong("expr", error.reason) from None
    if rule.each and (silence is not None or not _looks_at_subject(rule.expr)):
        raise entry.wrong("each", f"such a rule's expr must look at `{SUBJECT}`")
    return rule


def _each(entry: Mapped) -> tuple[str, ...]:
    value = entry.values.get("each")
    names = _names(entry, "each") if isinstance(value, list) else [entry.text("each")]
    if value is None:
        return ()
    if not names:
        raise entry.wrong("each", "expected a role, or a list of roles")
    for name in names:
        _role(entry, "each", name)
    return tuple(dict.fromkeys(str(name) for name in names))


def _looks_at_subject(expr: str) -> bool:
    return any(
        part.value == SUBJECT for part in parse(expr).walk() if part.op in {"metric", "glob"}
    )


def _roles(root: Mapped) -> dict[str, str]:
    value = root.values.get("roles")
    roles = root.texts("roles")
    if isinstance(value, Mapped):
        for name, role in roles.items():
            _role(value, name, role)
    return roles


def _role(entry: Mapped, key: str, name: str | None) -> None:
    if name not in ROLES:
        close = difflib.get_close_matches(str(name), ROLES, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(ROLES))}"
        raise entry.wrong(key, f"no role {name!r}{hint}")


def _expression(entry: Mapped, key: str) -> str:
    text = entry.text(key)
    if text is None:
        raise entry.wrong(key, "a rule needs an expression")
    try:
        parse(text)
    except RuleError as error:
        raise entry.wrong(key, error.reason) from None
    return " ".join(text.splitlines()).strip()


def _span(entry: Mapped, key: str, default: Span) -> Span:
    value = entry.values.get(key)
    if value is None:
        return default
    try:
        return parse_span(str(value))
    except RuleError as error:
        raise entry.wrong(key, error.reason) from None


def _choice(entry: Mapped, key: str, value: str | None, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise entry.wrong(key, f"{value!r} is none of {', '.join(choices)}")
    return value


def _action(entry: Mapped) -> Action:
    words = tuple(action.word for action in Action)
    word = _choice(entry, "action", entry.text("action", "none"), words)
    return Action[str(word).upper()]


def _names(entry: Mapped, key: str) -> list[str]:
    names = entry.sequence(key)
    for name in names:
        if not isinstance(name, str):
            raise entry.wrong(key, f"expected names, found {name!r}")
    return names


def _numbers(entry: Mapped, key: str) -> tuple[float, ...]:
    numbers = entry.sequence(key)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise entry.wrong(key, f"expected numbers, found {number!r}")
    if not all(a < b for a, b in pairwise([-math.inf, *numbers, math.inf])):
        raise entry.wrong(key, "the edges must ascend and be finite")
    return tuple(map(float, numbers))


def _metric(entry: Mapped) -> str:
    name = entry.text("metric")
    if not name:
        raise entry.wrong("metric", "expected the name of a metric")
    return name


def _bands(entry: Mapped) -> Bands:
    entry.refuse_unknown(_ZONE_KEYS, "a zone")
    edges, names = _numbers(entry, "edges"), _names(entry, "names")
    if len(names) != len(edges) + 1:
        raise entry.wrong("names", f"{len(edges)} edges need {len(edges) + 1} names")
    for name in names:
        _choice(entry, "names", name, ZONE_NAMES)
    fallback = entry.values.get("fallback", math.nan)
    if isinstance(fallback, bool) or not isinstance(fallback, (int, float)):
        raise entry.wrong("fallback", f"expected a number, found {fallback!r}")
    by_rules = entry.texts("by_rules")
    for name in by_rules.values():
        _choice(entry, "by_rules", name, ZONE_NAMES)
    if not edges and not by_rules:
        raise entry.wrong("edges", "a metric in one zone alone needs no zones")
    return Bands(
        metric=_metric(entry),
        edges=edges,
        names=tuple(names),
        of=_choice(entry, "of", entry.text("of", "value"), ("value", "magnitude", "bound", "knee")),
        beside=entry.text("beside") or "",
        fallback=float(fallback),
        by_rules=by_rules,
    )


def _aliases(entry: Mapped) -> list[Alias]:
    entry.refuse_unknown(_ALIAS_KEYS, "an alias")
    factor = entry.values.get("factor", 1)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)):
        raise entry.wrong("factor", f"expected a number, found {factor!r}")
    metric = _metric(entry)
    return [Alias(name, metric, float(factor)) for name in _names(entry, "names")]
