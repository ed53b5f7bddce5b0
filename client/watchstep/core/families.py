"""What kind of training a run is, told by the names of its metrics.

Each name speaks for the families whose trainers log it, by the table of trainers, and a few words
and roles speak for one of them. The family decides by which rules a run is judged: the level of a
language model's loss means much, that of a policy gradient's total loss nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable

_MOST_BY_NAMES = 3.0
LEAST_SCORE = 0.5
"""Below it nothing speaks clearly enough for any family."""
_WORDS: dict[str, frozenset[str]] = {
    "preference": frozenset({"chosen", "rejected", "dpo", "kto", "orpo", "simpo"}),
    "grpo": frozenset(
        {"completion", "completions", "response", "responses", "grpo", "rloo", "dapo", "gspo"}
        | {"group", "groups", "grouped", "prompt", "prompts", "generation"}
    ),
    "off_policy": frozenset(
        {"td", "q", "qf", "qf1", "qf2", "q1", "q2", "qloss", "qvalue", "qvalues", "critic"}
        | {"critic1", "critic2", "critics", "alpha", "ent", "exploration", "replay", "buffer"}
        | {"target", "dqn", "sac", "td3", "ddpg", "cql"}
    ),
    "on_policy": frozenset(
        {"clipfrac", "clipped", "surrogate", "explained", "approxkl", "approx", "gae", "vf"}
        | {"ppo", "a2c", "trpo", "impala", "advantages"}
    ),
}
_ON_POLICY_ONLY = frozenset({"explained", "vf", "surrogate", "gae"})
_OFF_POLICY_ONLY = _WORDS["off_policy"] - {"target", "buffer", "critics"}
_OF_A_CRITIC = frozenset({"value", "vf", "critic", "cri", "baseline"})
_OF_ANY = frozenset({"objective", "obj", "likelihood", "elbo"})
_OF_A_POLICY = frozenset({"reward", "signed_loss", "value"})
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")


def family_of(
    names: Collection[str],
    role: Callable[[str], str],
    families_of: Callable[[str], Iterable[str]] = lambda _: (),
) -> str:
    """The family that the names speak for most; "" where none clearly.

    Args:
        role: The role of a name where the family is not known.
        families_of: The families whose trainers are known to log a name.
    """
    scores: dict[str, float] = dict.fromkeys((*_WORDS, "supervised"), 0.0)
    roles = Counter(role(name) for name in names)
    words: set[str] = set()
    for name in names:
        words |= _words(name)
        families = set(families_of(name)) - {""}
        for family in families:
            scores[family] += _MOST_BY_NAMES / len(names) / len(families) ** 2
    signed = [_words(name) for name in names if role(name) == "signed_loss"]
    # An objective or a likelihood is maximised in speech and boosting as well.
    of_any = all(own & _OF_ANY for own in signed) and not any(
        words & own for own in _WORDS.values()
    )
    speaking = _OF_A_POLICY - ({"signed_loss"} if of_any else set())
    learns_a_policy = any(roles[name] for name in speaking)
    has_critic = any(role(name) == "loss" and _OF_A_CRITIC & _words(name) for name in names)
    if learns_a_policy:
        for family, own in _WORDS.items():
            scores[family] += min(len(words & own), 3)
        if words & {"chosen", "rejected"}:
            scores["preference"] += 4
        of_answers = words & _WORDS["grpo"] or (roles["kl"] and not roles["entropy"])
        if of_answers:
            # Answers, or a distance from a reference: PPO where a value function is learnt.
            on_policy = has_critic or words & _ON_POLICY_ONLY
            scores["on_policy" if on_policy else "grpo"] += 6
        elif words & _OFF_POLICY_ONLY and not words & _WORDS["on_policy"]:
            scores["off_policy"] += 4
        if roles["signed_loss"] and not words & _OFF_POLICY_ONLY:
            scores["on_policy"] += 1
    of_a_classifier = bool(words & {"acc", "accuracy"})
    if not learns_a_policy and (roles["loss"] or roles["eval_loss"] or signed or of_a_classifier):
        scores["supervised"] += 3
    best, score = max(scores.items(), key=lambda entry: entry[1])
    return best if score >= LEAST_SCORE else ""


def _words(name: str) -> set[str]:
    return {part.lower() for part in _SPLIT.split(name) if part}
