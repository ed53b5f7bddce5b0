"""Compiled rules against a slow evaluation by definition, over random rules and readings."""

import json
import math
import random
import statistics
from collections.abc import Callable
from fnmatch import fnmatchcase
from fractions import Fraction

import pytest

from watchstep.core import arithmetic
from watchstep.core.engine import RuleSet, State
from watchstep.core.grammar import Syntax, parse
from watchstep.core.rules import Rule
from watchstep.core.spans import Span
from watchstep.core.updates import Update
from watchstep.core.windows import fewest

TAME = ("a", "b/c")
WILD = "wild"
LONGEST = 60
ROUNDED = {"mean", "std", "zscore", "slope", "level", "settled", "growth", "first"}
RULES = 8


class Rules:
    """Random conditions; what is added up looks at tame readings, the rest at wild ones too."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def one_of(self, *choices: str) -> str:
        return self.chance.choice(choices)

    def window(self) -> str:
        return self.one_of("1", "2", "3", "9", "10", "11", "20", "4s", "15s")

    def metric(self) -> str:
        return self.one_of(*TAME, WILD)

    def number(self, depth: int = 0) -> str:
        kind = self.chance.randrange(9 if depth < 3 else 2)
        inner = self.metric() if self.chance.random() < 0.6 else self.number(depth + 1)
        match kind:
            case 0:
                return self.one_of("0", "1", "2", "0.5", "-1", "7", "1e-5", "1e300")
            case 1:
                return self.metric()
            case 2:
                return f"({inner} {self.one_of('+', '-', '*', '/')} {self.number(depth + 1)})"
            case 3:
                return f"{self.one_of('abs', 'sqrt', 'log10', 'bound')}({inner})"
            case 4:
                return f"{self.one_of('least', 'greatest', 'known')}({inner}, {self.metric()})"
            case 5:
                rank = self.one_of("median", "min", "max", "spike", "drop")
                return f"{rank}({self.metric()}, {self.window()})"
            case 6:
                sums = self.one_of("mean", "std", "zscore", "slope")
                return f"{sums}({self.one_of(*TAME)}, {self.window()})"
            case 7:
                level = self.one_of("level", "settled", "growth", "first")
                return self.one_of(
                    f"record({inner}, 3)",
                    f"lowest({inner}, 2)",
                    "age()",
                    f"reports({self.metric()})",
                    f"nonfinite_reports({self.metric()}, {self.window()})",
                    f"{level}({self.metric()}, {self.one_of('1', '3', '11')})",
                )
            case _:
                return f"previous({inner})"

    def condition(self, depth: int = 0) -> str:
        kind = self.chance.randrange(10 if depth < 3 else 4)
        match kind:
            case 0 | 1 | 2:
                sign = self.one_of("<", "<=", ">", ">=", "==", "!=")
                return f"{self.number()} {sign} {self.number()}"
            case 3:
                return f"nonfinite({self.one_of('*', 'b/*', 'a, wild', 'zz')})"
            case 4 | 5:
                word = self.one_of("and", "or")
                return f"({self.condition(depth + 1)} {word} {self.condition(depth + 1)})"
            case 6:
                return f"not ({self.condition(depth + 1)})"
            case 7:
                stuck = f"stuck({self.metric()}, {self.one_of('1', '2', '5')})"
                return self.one_of(
                    f"flat({self.metric()}, {self.window()}{self.one_of('', ', 0.1')})", stuck
                )
            case 8:
                count = f"count({self.condition(depth + 1)}, {self.window()})"
                return f"{count} {self.one_of('>=', '>', '==')} {self.one_of('0', '1', '3')}"
            case _:
                return f"changed({self.metric()})"


def updates(chance: random.Random) -> list[Update]:
    """Repeats, gaps, names in changing order, and everything a float can be."""
    odd = (math.nan, math.inf, -math.inf)
    wild = (0.0, -0.0, 5e-324, 1e-5, 1.0, -3.0, 1e30, 1e308, -1.7e308, 1.7e308)
    stream, names, time = [], [*TAME, WILD, "other"], 0.0
    steady = chance.random() < 0.4
    for seq in range(1, LONGEST + 1):
        time += chance.choice([0.0, 1.0, 3.0])
        if chance.random() < 0.1:
            chance.shuffle(names)
        readings = {}
        for name in names:
            tame = float(chance.randrange(3)) if steady else chance.gauss(1.0, 2.0)
            value = chance.choice(wild) if name == WILD else tame
            value = chance.choice(odd) if chance.random() < 0.04 else value
            if chance.random() > 0.05:
                readings[name] = value
        stream.append(Update(seq, seq, time, readings))
    return stream


Value = float | bool | None


class Definition:
    """What every node is at every update, by the words of the function table.

    Attributes:
        doubtful: Texts of comparisons that rounding may have decided.
    """

    def __init__(self, stream: list[Update]) -> None:
        self.stream = stream
        self.values: dict[tuple[str, int], Value] = {}
        self.doubtful: set[str] = set()

    def of(self, node: Syntax, at: int) -> Value:
        key = (str(node), at)
        if key not in self.values:
            self.values[key] = self._of(node, at)
        return self.values[key]

    def number(self, node: Syntax, at: int) -> float:
        value = self.of(node, at)
        return math.nan if value is None else float(value)

    def _of(self, node: Syntax, at: int) -> Value:
        match node.op:
            case "number":
                return float(str(node.value))
            case "metric":
                return self.stream[at].readings.get(str(node.value), math.nan)
            case "call":
                return getattr(self, f"_{node.value}", self._simple)(node, at)
            case "not":
                held = self.of(node.parts[0], at)
                return None if held is None else not held
            case "and" | "or":
                return self._joined(node, at)
            case "negate":
                return -self.number(node.parts[0], at)
        a, b = (self.number(part, at) for part in node.parts)
        if node.type == "bool":
            return self._compared(node, a, b)
        plain = {"+": a + b, "-": a - b, "*": a * b}
        return arithmetic.ratio(a, b) if node.op == "/" else plain[node.op]

    def _joined(self, node: Syntax, at: int) -> bool | None:
        decisive = node.op == "or"
        held = {self.of(part, at) for part in node.parts}
        return decisive if decisive in held else None if None in held else not decisive

    def _compared(self, node: Syntax, a: float, b: float) -> bool | None:
        if math.isnan(a) or math.isnan(b):
            return None
        if math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) and any(
            part.value in {"mean", "std", "zscore", "slope", "level", "settled", "growth", "first"}
            for part in node.walk()
        ):
            self.doubtful.add(str(node))
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[
            node.op
        ]

    def _simple(self, node: Syntax, at: int) -> Value:
        name, parts = str(node.value), [self.number(part, at) for part in node.parts]
        return abs(parts[0]) if name == "abs" else getattr(arithmetic, name)(*parts)

    def past(self, node: Syntax, at: int) -> list[tuple[float, float]]:
        """Every finite value of a number before an update, with its time."""
        values = [(self.number(node, then), self.stream[then].time) for then in range(at)]
        return [(value, time) for value, time in values if math.isfinite(value)]

    def window(self, node: Syntax, at: int, *, now: bool = False) -> list[float]:
        """What the window of a call holds; empty where that is too little."""
        span = node.parts[1].value
        assert isinstance(span, Span)
        held = self.past(node.parts[0], at + now)
        since = self.stream[at].time - (span.seconds or 0.0)
        if span.updates:
            values = [value for value, _ in held[-span.updates :]]
        else:
            values = [value for value, time in held if time >= since]
        return values if len(values) >= fewest(span) else []

    def over(self, node: Syntax, at: int, statistic: Callable[[list[float]], float]) -> float:
        values = self.window(node, at)
        return statistic(values) if values else math.nan

    def _median(self, node: Syntax, at: int) -> float:
        halves = self.over(node, at, lambda v: statistics.median([x / 2 for x in v]))
        return self.over(node, at, statistics.median) if abs(halves) < 1e300 else halves * 2

    def _min(self, node: Syntax, at: int) -> float:
        return self.over(node, at, min)

    def _max(self, node: Syntax, at: int) -> float:
        return self.over(node, at, max)

    def _mean(self, node: Syntax, at: int) -> float:
        return self.over(node, at, lambda v: float(sum(map(Fraction, v)) / len(v)))

    def _std(self, node: Syntax, at: int) -> float:
        return self.over(node, at, statistics.pstdev)

    def _zscore(self, node: Syntax, at: int) -> float:
        x = self.number(node.parts[0], at)
        return arithmetic.ratio(x - self._mean(node, at), self._std(node, at))

    def _spike(self, node: Syntax, at: int) -> float:
        x = abs(self.number(node.parts[0], at))
        return arithmetic.ratio(x, self._typical(node, at))

    def _drop(self, node: Syntax, at: int) -> float:
        x = abs(self.number(node.parts[0], at))
        return arithmetic.ratio(self._typical(node, at), x)

    def _typical(self, node: Syntax, at: int) -> float:
        sizes = sorted(abs(value) for value in self.window(node, at))
        middle = len(sizes) // 2
        if not sizes:
            return math.nan
        return sizes[middle] if len(sizes) % 2 else sizes[middle - 1] / 2 + sizes[middle] / 2

    def _slope(self, node: Syntax, at: int) -> float:
        values = self.window(node, at, now=True)
        if len(values) < 2 or not math.isfinite(self.number(node.parts[0], at)):
            return math.nan
        middle = Fraction(len(values) - 1, 2)
        over = sum((n - middle) * Fraction(value) for n, value in enumerate(values))
        return float(over / sum((n - middle) ** 2 for n in range(len(values))))

    def _flat(self, node: Syntax, at: int) -> bool | None:
        values = self.window(node, at, now=True)
        span = node.parts[1].value
        assert isinstance(span, Span)
        if not math.isfinite(self.number(node.parts[0], at)) or len(values) < (span.updates or 1):
            return None
        tolerance = float(str(node.parts[2].value)) if len(node.parts) > 2 else 0.0
        return max(values) - min(values) <= tolerance * max(map(abs, values))

    def _stuck(self, node: Syntax, at: int) -> bool | None:
        number = int(float(str(node.parts[1].value)))
        values = [value for value, _ in self.past(node.parts[0], at + 1)]
        if not math.isfinite(self.number(node.parts[0], at)) or len(values) < number:
            return None
        return len(set(values[-number:])) == 1

    def levels(self, node: Syntax, at: int) -> list[float]:
        """The level after every finite value up to an update, oldest first."""
        span = node.parts[1].value
        assert isinstance(span, Span)
        sizes = [abs(value) / 2 for value, _ in self.past(node.parts[0], at + 1)]
        ends = range(fewest(span), len(sizes) + 1)
        windows = [sizes[max(0, end - (span.updates or 1)) : end] for end in ends]
        return [min(statistics.median(window) * 2, 1.7e308) for window in windows]

    def _level(self, node: Syntax, at: int) -> float:
        levels = self.levels(node, at)
        is_known = levels and math.isfinite(self.number(node.parts[0], at))
        return levels[-1] if is_known else math.nan

    def _settled(self, node: Syntax, at: int) -> float:
        levels = self.levels(node, at)
        above = [number for number, level in enumerate(levels) if level > 0.0]
        if not above:
            return 0.0 if levels else math.nan
        return max(min(levels[above[0] :]), levels[above[0]] / 1000)

    def _growth(self, node: Syntax, at: int) -> float:
        level, settled = self._level(node, at), self._settled(node, at)
        return math.log10(level / settled) if level > settled else level - level

    def _first(self, node: Syntax, at: int) -> float:
        span = node.parts[1].value
        assert isinstance(span, Span)
        levels = self.levels(node, at)
        number = (span.updates or 1) - fewest(span)
        return levels[number] if len(levels) > number else math.nan

    def _reports(self, node: Syntax, at: int) -> float:
        name = str(node.parts[0].value)
        return float(sum(name in update.readings for update in self.stream[: at + 1]))

    def _nonfinite_reports(self, node: Syntax, at: int) -> float:
        name, span = str(node.parts[0].value), node.parts[1].value
        assert isinstance(span, Span)
        since = self.stream[at].time - (span.seconds or 0.0)
        rows = [u for u in self.stream[: at + 1] if name in u.readings]
        if name not in self.stream[at].readings:
            return math.nan
        rows = [row for row in rows if span.updates or row.time >= since]
        return float(
            sum(not math.isfinite(u.readings[name]) for u in rows[-(span.updates or LONGEST) :])
        )

    def _record(self, node: Syntax, at: int) -> float:
        x = self.number(node.parts[0], at)
        sizes = [abs(value) for value, _ in self.past(node.parts[0], at)]
        enough = len(sizes) >= float(str(node.parts[1].value)) and not math.isnan(x)
        return arithmetic.ratio(abs(x), max(sizes)) if enough else math.nan

    def _lowest(self, node: Syntax, at: int) -> float:
        values = [value for value, _ in self.past(node.parts[0], at)]
        return min(values) if len(values) >= float(str(node.parts[1].value)) else math.nan

    def _previous(self, node: Syntax, at: int) -> float:
        return ([math.nan] + [value for value, _ in self.past(node.parts[0], at)])[-1]

    def _changed(self, node: Syntax, at: int) -> bool | None:
        x, before = self.number(node.parts[0], at), self._previous(node, at)
        return None if math.isnan(x) or math.isnan(before) else x != before

    def _count(self, node: Syntax, at: int) -> float:
        span = node.parts[1].value
        assert isinstance(span, Span)
        conditions = [
            (self.of(node.parts[0], then), self.stream[then].time) for then in range(at + 1)
        ]
        if conditions[-1][0] is None:
            return math.nan
        since = self.stream[at].time - (span.seconds or 0.0)
        counted = [
            held
            for held, time in conditions
            if held is not None and (span.updates or time >= since)
        ]
        return float(sum(map(bool, counted[-(span.updates or LONGEST) :])))

    def _nonfinite(self, node: Syntax, at: int) -> bool | None:
        patterns = [str(part.value) for part in node.parts]
        readings = self.stream[at].readings.items()
        values = [v for name, v in readings if any(fnmatchcase(name, p) for p in patterns)]
        return not all(map(math.isfinite, values)) if values else None

    def _age(self, _node: Syntax, at: int) -> float:
        return at + 1.0


@pytest.mark.parametrize("seed", range(24))
def test_compiled_rules_say_what_their_definitions_say(seed: int) -> None:
    chance = random.Random(seed)
    texts = Rules(chance)
    rules = RuleSet([Rule(f"R{at}", texts.condition()) for at in range(RULES)])
    trees = [parse(rule.expr) for rule in rules.rules]
    stream = updates(chance)
    definition = Definition(stream)
    state = State(rules)
    state.begin_attempt(1)

    for at, update in enumerate(stream):
        if at == LONGEST // 2:
            state = State.restore(rules, json.loads(json.dumps(state.snapshot(), allow_nan=False)))
        state.take(update)
        # As though all fired: of an idle rule only what holds is told.
        state.active, state.busy = [2] * RULES, True
        judged = rules.program.evaluator.advance(state, state.schedule)
        conditions = {number: held for number, held, _ in judged}

        for number, tree in enumerate(trees):
            expected = definition.of(tree, at)
            if {str(node) for node in tree.walk()} & definition.doubtful:
                continue
            assert conditions[number] is expected, (at, str(tree))
