"""What belongs to a generator and a discriminator, by the words of its name."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise

from watchstep.core.roles import ADVERSARIAL, role_of, words_of

_DISCRIMINATORS = frozenset({"discriminator", "disc"})
_LETTERS = frozenset({"d", "g"})
_ON_FAKES = _DISCRIMINATORS | {"d", "fake", "score", "scores", "loss", "pred", "mean"}
_LAYER = re.compile(r"[dg]\d")
_NO_LOSS = re.compile(r"time|^data$|^lr|_lr$|grad|norm|acc|score|epoch|step|eta|psnr|ssim")


def is_adversarial(name: str) -> bool:
    """Whether a loss is a generator's or a discriminator's, and so need not fall.

    An actor and a critic are no such pair.
    """
    words = _words_of_loss(name)
    return not ADVERSARIAL.isdisjoint(words) or "fake" in words or _letter(words) != ""


def is_discriminator(name: str) -> bool:
    """Whether a loss is that of the one that tells what was made from what is real.

    How far it takes a fake for real is one, too, and goes to 0 as it wins: `D_fake`, `D(G(z))`.
    """
    words = _words_of_loss(name)
    is_on_fakes = "fake" in words and len(words) > 1 and _ON_FAKES.issuperset(words)
    return is_on_fakes or not _DISCRIMINATORS.isdisjoint(words) or _letter(words) == "d"


def short_losses(names: Collection[str]) -> dict[str, str]:
    """Names as losses, where a line holds a generator's and a discriminator's by short names.

    As pix2pix' `G_L1` and `D_real`, or the `d1`, `d2` and `g` of one loss for each half of a batch.
    Where a loss is called one, what has no such name is none: `D_real` is a score beside `loss_D`.
    """
    begins = {name: name.partition("_")[0].rstrip("12") for name in names}
    if not _LETTERS.issubset(begins.values()) or any("loss" in name for name in names):
        return {}
    # `G_A` and `D_A` stand among other parts; of `D: 0.6 G: 1.2 fid: 30` the letters are losses.
    if not _LETTERS.issubset(begins[name] for name in names if "_" in name):
        names = [name for name in names if begins[name] in _LETTERS]
    return {name: f"{name}_loss" for name in names if not _NO_LOSS.search(name)}


def _words_of_loss(name: str) -> list[str]:
    words = words_of(name) if role_of(name) in {"loss", "eval_loss"} else []
    # DETR numbers the layers of its decoder: `d0.loss_cls`.
    return words[1:] if len(words) > 2 and _LAYER.match(name) else words


def _letter(words: list[str]) -> str:
    """That of `loss_d`, `g_loss`, `errD`, `l_d_real` or `d_real_loss`, "" of other names."""
    pairs = [*pairwise(words), *pairwise(reversed(words))]
    beside = (a for a, b in pairs if a in _LETTERS and b in {"loss", "losses", "err", "l"})
    first = words[0] if words and words[-1] == "loss" and words[0] in _LETTERS else ""
    return next(beside, first)
