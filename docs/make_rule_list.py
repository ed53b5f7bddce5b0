"""Writes docs/rule-list.md: what each shipped rule says, why it may fire, what it asks for.

Run: python docs/make_rule_list.py
"""

from __future__ import annotations

from pathlib import Path

from watchstep.core.rules import Rule
from watchstep.core.updates import Action
from watchstep.rules import load

PAGE = Path(__file__).with_name("rule-list.md")
PACKS = ("generic", "pretrain", "ppo", "grpo", "machine")
HEAD = """# Every rule

Written from the packs by `python docs/make_rule_list.py`. A name stands here as it stands in an
alert. What is critical calls people. What a rule asks for (skip the step, pin the last good
checkpoint, halt) is done by a trainer that was told to (`on_critical`). How rules are written,
silenced and added: [Rules](rules.md).
"""


def made() -> str:
    """The page's text."""
    return HEAD + "".join(map(_pack, PACKS))


def _pack(name: str) -> str:
    rules = sorted(load([name]).rules, key=lambda rule: rule.name)
    return f"\n## Pack `{name}`\n" + "".join(map(_entry, rules))


def _entry(rule: Rule) -> str:
    asks = f", asks for {rule.action.name.lower()}" if rule.action > Action.NONE else ""
    about = f", for each {' and '.join(rule.each).replace('_', ' ')}" if rule.each else ""
    says = rule.annotations.get("summary", "").format(metric="the metric", value="so much")
    cause = rule.annotations.get("cause", "")
    return (
        f"\n### {rule.name}\n\n**{rule.severity}**{asks}{about}. {says[:1].upper()}{says[1:]}\n"
        + (f"\nMay be caused by: {cause}\n" if cause else "")
    )


if __name__ == "__main__":
    PAGE.write_text(made(), encoding="utf-8")
