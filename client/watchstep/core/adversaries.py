"""Which losses belong to a generator and a discriminator, by the words of their names."""

from __future__ import annotations

from itertools import pairwise

from watchstep.core.roles import ADVERSARIAL, role_of, words_of

_DISCRIMINATORS = frozenset({"discriminator", "disc"})


def is_adversarial(name: str) -> bool:
    """Whether a loss is a generator's or a discriminator's, and so need not fall.

    An actor and a critic are no such pair.
    """
    words = _words_of_loss(name)
    return not ADVERSARIAL.isdisjoint(words) or _letter(words) != ""


def is_discriminator(name: str) -> bool:
    """Whether a loss is that of the one that tells what was made from what is real."""
    words = _words_of_loss(name)
    return not _DISCRIMINATORS.isdisjoint(words) or _letter(words) == "d"


def _words_of_loss(name: str) -> list[str]:
    return words_of(name) if role_of(name) in {"loss", "eval_loss"} else []


def _letter(words: list[str]) -> str:
    """That of `loss_d`, `g_loss`, `errD` or `l_d_real`, "" of other names."""
    pairs = [*pairwise(words), *pairwise(reversed(words))]
    return next(
        (a for a, b in pairs if a in {"d", "g"} and b in {"loss", "losses", "err", "l"}), ""
    )
