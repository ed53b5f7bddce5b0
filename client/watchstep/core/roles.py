"""What kind of quantity a metric is, by the words of its name.

A name is split into words. The rightmost word that stands for a quantity decides: `ent_coef_loss`
is a loss, `loss_scale` a scale. A path is read from its end: `losses/approx_kl` is a KL,
`loss/policy_avg` a loss. Then words beside it refine it: a policy's loss is signed, a loss on
validation data is an evaluation's. What words cannot tell (`trl` is llm.c's training loss)
stands in the table of trainers, rules/packs/trainers.csv, which comes first.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal[
    "loss",
    "signed_loss",
    "eval_loss",
    "eval_score",
    "grad_norm",
    "reward",
    "kl",
    "entropy",
    "value",
    "scale",
    "rate",
    "spread",
    "weight",
    "difficulty",
    "share",
    "throughput",
    "time",
    "count",
    "unknown",
]
"""What kind of quantity a metric is; docs/roles.md says what each means."""

ROLES: frozenset[Role] = frozenset(get_args(Role))
Family = Literal["", "supervised", "on_policy", "off_policy", "preference", "grpo"]
FAMILIES = frozenset(get_args(Family)) - {""}
"""Kinds of training; the table of trainers gives each trainer's."""

CORE_ROLES = frozenset({"loss", "signed_loss", "kl", "entropy"})
_CORE_NAMES = frozenset(
    f"train/{name}"
    for name in ("std", "advantages_mean_raw", "advantages_std_raw", "advantages_norm_max_abs")
)
"""What is finite as long as the training is, whatever its role."""

_Quantity = Role | Literal["accuracy"]
_Words = frozenset[str]


def _words(text: str) -> _Words:
    return frozenset(text.split())


_STRONG: Mapping[_Quantity, _Words] = {
    "loss": _words(
        "loss losses cost costs penalty nll ce bce nce infonce ntxent nelbo mse sse rmse rmsle mae"
        " mape smape huber xent cross_entropy error err td_error ppl perplexity bpb bpc bpd"
    ),
    "eval_loss": _words("wer cer bwer bcer uer ter eer error_rate fid kid lpips"),
    "signed_loss": _words("surrogate surr objective elbo log_likelihood"),
    "eval_score": _words(
        "map miou iou dice ap aps apm apl ar auc auroc auprc bleu sacrebleu rouge rougel rougelsum"
        " meteor cider chrf psnr ssim sisnr sisdr sdr pesq stoi mrr ndcg f1 r2 mcc kappa pearson"
        " spearman fitness elo inception"
    ),
    "accuracy": _words(
        "acc accuracy accuracies success successes win wins winrate precision recall prec pass top"
        " hits correct exact_match"
    ),
    "reward": _words("reward rewards rew ret return returns score scores margin margins"),
    "kl": _words("kl kld kl_divergence kl_penalty divergence"),
    "entropy": _words("entropy entropies ent"),
    "value": _words(
        "values vals vpred vpreds target targets baseline advantage advantages adv vtrace"
    ),
    "scale": _words("scale scaler scaling loss_scale"),
    "rate": _words("lr lrs learning_rate step_size"),
    "spread": _words("std stddev stdev sd deviation sigma var variance log_std"),
    "weight": _words(
        "coef coeff coefs coeffs coefficient coefficients alpha beta temperature lambda weight"
        " multiplier mul ctl lagrange threshold clip_range weight_decay wd"
    ),
    "difficulty": _words("difficulty curriculum seqlen"),
    "share": _words(
        "frac fraction fractions share rate ratio percent percentage pct proportion prob"
        " probability frequency ev explained_variance clip_fraction epsilon sparsity occupancy"
    ),
    "throughput": _words("fps sps tps wps ups qps ips throughput speed flops tflops gflops mfu"),
    "time": _words(
        "time times timing timer duration seconds second secs sec ms elapsed wall latency eta"
        " hours minutes runtime"
    ),
    "count": _words(
        "num number count counts counter len lens length lengths size sizes bsz timesteps"
        " interacts nonfinite"
    ),
}
"""Words that name a quantity. What another quantity is set or measured by comes last in
English (`kl_coef`, `reward_std`), so of several the rightmost decides."""

_WEAK: Mapping[_Quantity, _Words] = {
    "value": _words("value q qf v vf"),
    "count": _words(
        "step steps epoch epochs iter iters iteration iterations episode episodes token tokens"
        " toks sample samples update updates batch batches turn turns rollouts tasks kimg"
    ),
    "time": _words("s"),
    "loss": _words("fake"),  # how far a discriminator takes a fake for real
}
"""Words that name a quantity only where the name has no strong one: `train_loss_epoch`,
`alpha_value`, `losses/value`."""

_PHRASES: Mapping[tuple[str, str], str] = {
    ("batch", "cost"): "elapsed",
    ("cross", "entropy"): "cross_entropy",
    ("bits", "per"): "bpd",
    ("neg", "elbo"): "nelbo",
    ("clip", "epsilon"): "clip_range",
    ("clip", "frac"): "clip_fraction",
    ("clip", "fraction"): "clip_fraction",
    ("clip", "range"): "clip_range",
    ("default", "policy"): "rllib_module",
    ("error", "rate"): "error_rate",
    ("exact", "match"): "exact_match",
    ("explained", "var"): "explained_variance",
    ("g", "z"): "fake",
    ("explained", "variance"): "explained_variance",
    ("kl", "divergence"): "kl_divergence",
    ("kl", "penalty"): "kl_penalty",
    ("learning", "rate"): "learning_rate",
    ("learning", "rates"): "learning_rate",
    ("log", "likelihood"): "log_likelihood",
    ("log", "prob"): "log_prob",
    ("log", "probs"): "log_prob",
    ("log", "std"): "log_std",
    ("loss", "scale"): "loss_scale",
    ("loss", "scaling"): "loss_scale",
    ("reader", "cost"): "elapsed",
    ("si", "sdr"): "sisdr",
    ("si", "snr"): "sisnr",
    ("seq", "len"): "seqlen",
    ("seq", "length"): "seqlen",
    ("sequence", "length"): "seqlen",
    ("step", "size"): "step_size",
    ("td", "error"): "td_error",
    ("time", "cost"): "elapsed",
    ("time", "out"): "timeout",
    ("weight", "decay"): "weight_decay",
}

_POLICY = _words(
    "policy pol actor act pi pg surrogate surr ppo trpo grpo reinforce objective exploration"
)
_TUNED = _words("alpha coef coeff temperature lambda lagrange multiplier")
_CRITIC = _words("critic value values target targets vtrace gae mc td td_error q qf v vf bootstrap")
_EVALUATION = _words("val valid validation eval evaluation test testing dev holdout heldout")
_TRAINING = _words("train training rollout batch learning")
_PREFERENCE = _words("chosen rejected reject")
_CURIOSITY = _words("intrinsic curiosity rnd novelty icm")
_OF_A_POLICY = _POLICY | _words("ref reference teacher rollout vllm mismatch")
_GRADIENT = _words("grad grads gradient gradients gradnorm gnorm")
_ONE_SECOND, _NORM = _words("second sec s"), _words("norm l2 rms magnitude gradnorm gnorm")
_PART = _words("clip clipped masked truncated idle aborted skipped dropped acceptance time")
_PARAMETERS = _words("layer layers fc conv kernel bias linear module param params weights mlp")
_MACHINE = _words("gpu cpu mem memory disk system power watts gib mib gb mb vram ram")
ADVERSARIAL = _words("generator gen discriminator disc gan adversarial wgan")
_OF_A_SHORT_LOSS = _words("g d pix percep perceptual style total gan")
_MANY = _words(
    "it tok toks iters iterations steps tokens samples updates batches episodes frames images"
    " examples"
)
_STATISTIC = _words("mean avg average min max median sum total last cur raw ema global epoch step")
_OF_WHAT_FOLLOWS: Mapping[str, _Quantity] = {
    "num": "count",
    "number": "count",
    "n": "count",
    "frac": "share",
    "fraction": "share",
    "percent": "share",
    "pct": "share",
    "is": "share",
    "std": "spread",
}
"""First words that say what the rest is measured by: `frac_reward_zero_std` is a share."""

_KNOWN = frozenset().union(
    *_STRONG.values(),
    *_WEAK.values(),
    *_PHRASES,
    _POLICY | _CRITIC | _EVALUATION | _TRAINING | _PREFERENCE | _CURIOSITY,
    _GRADIENT | _NORM | _PART | ADVERSARIAL | _STATISTIC | _words("ep approx"),
)
_PATH = re.compile(r"[/:]+")
_PIECE = re.compile(r"[A-Za-z]+[0-9]*")
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_BEST_SO_FAR: Mapping[Role, str] = {"loss": "min", "eval_loss": "min", "eval_score": "max"}
"""Roles in which the best so far, which repeats, is no measurement; and how such names begin."""
_LONGEST_COMPOUND = 24
"""Letters of the longest word that is taken apart, so that a name costs linear time."""


@functools.lru_cache(maxsize=16_384)
def role_of(name: str, family: str = "") -> Role:
    """The role of a metric, by the words of its name.

    Args:
        name: As the trainer logs it, in any charset and of any length.
        family: What kind of training it is, one of `FAMILIES`; "" where that is not known.
            On-policy and GRPO trainers log a plain `loss` that holds the policy's term, so there
            it is signed.

    Returns:
        A role; "unknown" where no word of the name stands for a quantity.
    """
    path = [each for part in _PATH.split(name.replace("bits/dim", "bpd")) if (each := _split(part))]
    if unit := _speed_unit(path):
        return unit
    path = [_without_divisor(segment) for segment in path]
    quantity, at = _quantity(path)
    context = _context(path, at, family)
    if _is_gradient_norm(context.words, quantity):
        return "grad_norm"
    if context.words & _MACHINE and quantity in {"weight", "share", "count"}:
        return "unknown"  # a GPU's temperature, the memory's use
    refine = _REFINED.get(quantity)
    role = refine(context) if refine else _AS_NAMED[quantity]
    begins = path[-1][0] if path and len(path[-1]) > 1 else ""
    is_best = begins == _BEST_SO_FAR.get(role) or any("best" in segment for segment in path)
    return "unknown" if role in _BEST_SO_FAR and is_best else role


def is_core(name: str, role: str) -> bool:
    """Whether training is lost when this reading stays NaN or infinite.

    Not so an evaluation, a reward or explained variance, which can be computed over nothing, and
    not the gradient norm, which a loss scaler may overflow once in a healthy run: rules look at
    those.

    Args:
        name: As the vocabulary has it.
        role: Of the reported name.
    """
    return role in CORE_ROLES or name in _CORE_NAMES


def words_of(name: str) -> list[str]:
    return [word for part in _PATH.split(name) for word in _split(part)]


def _split(part: str) -> list[str]:
    """The words of one part of a path, in lower case; a phrase is one word."""
    words: list[str] = []
    for piece in _PIECE.findall(part):
        if piece.lower() in _KNOWN:
            words.append(piece.lower())
            continue
        bare = piece.rstrip("0123456789")
        inner = [bare] if bare.lower() in _KNOWN else _CAMEL.findall(bare)
        words.extend(word for each in inner for word in _taken_apart(each.lower()))
    return _with_phrases(words)


def _taken_apart(word: str) -> list[str]:
    """`eprewmean` as ep, rew, mean: the fewest known words that cover it, else the word."""
    if word in _KNOWN or not 4 <= len(word) <= _LONGEST_COMPOUND:
        return [word]
    covers: list[list[str] | None] = [[], *[None] * len(word)]
    for end in range(2, len(word) + 1):
        for start in range(end - 1):
            before = covers[start]
            if before is None or word[start:end] not in _KNOWN:
                continue
            best = covers[end]
            if best is None or len(before) + 1 < len(best):
                covers[end] = [*before, word[start:end]]
    if covers[-1] is None and word.endswith("loss"):
        return [word.removesuffix("loss"), "loss"]
    return covers[-1] or [word]


def _with_phrases(words: Sequence[str]) -> list[str]:
    joined: list[str] = []
    for word in words:
        if joined and (joined[-1], word) in _PHRASES:
            joined[-1] = _PHRASES[joined[-1], word]
        else:
            joined.append(word)
    return joined


def _speed_unit(path: Sequence[Sequence[str]]) -> Literal["throughput", "time", ""]:
    """What a unit says: `tokens_per_second` and `it/s` are speeds, `s/it` is a time."""
    words = list(itertools.chain.from_iterable(path))
    if len(path) > 1 and path[-1] in (["s"], ["sec"]):
        return "throughput"
    for before, after in itertools.pairwise(words):
        if after in _ONE_SECOND and (before == "per" or before in _MANY):
            return "throughput"
        if before in _ONE_SECOND and after in {"it", "iter", "step"}:
            return "time"
    return ""


def _without_divisor(segment: list[str]) -> list[str]:
    """`loss_per_token` is a loss: what follows `per` does not count."""
    return segment[: segment.index("per")] or segment if "per" in segment else segment


def _quantity(path: Sequence[Sequence[str]]) -> tuple[_Quantity, int]:
    """The quantity that a path speaks of, and where in the path it is named."""
    weak: tuple[_Quantity, int] = "unknown", 0
    for at in range(len(path) - 1, -1, -1):
        strong = _strong_of(path[at])
        if strong in {"time", "throughput"}:
            if weak[0] == "count" and path[weak[1]][-1].endswith("s"):
                # A group of panels: `time/episodes`, `throughput/total_tokens`.
                return weak
            if _is_axis(path, at):
                continue
        if strong != "unknown":
            return strong, at
        weak_here = _rightmost(path[at], _WEAK)
        if weak[0] == "unknown" and weak_here != "unknown":
            weak = weak_here, at
    return weak


def _is_axis(path: Sequence[Sequence[str]], at: int) -> bool:
    """Whether a last `time` only says over what a curve is drawn: `rewards/time`."""
    return (
        at == len(path) - 1
        and len(path[at]) == 1
        and any(_strong_of(segment) not in {"unknown", "time"} for segment in path[:at])
    )


def _strong_of(segment: Sequence[str]) -> _Quantity:
    if len(segment) > 1 and segment[0] in _OF_WHAT_FOLLOWS:
        return _OF_WHAT_FOLLOWS[segment[0]]
    if segment[0] in {"loss", "losses"} and segment[-1] not in _MEASURES:
        return "loss"  # `loss_actor`, `loss_value`
    if segment[0] == "l" and not _OF_A_SHORT_LOSS.isdisjoint(segment[1:2]):
        return "loss"  # BasicSR's `l_g_pix`, `l_d_real`
    return _rightmost(segment, _STRONG)


_MEASURES = (_STRONG["weight"] - _TUNED | _words("coef coeff")).union(
    *(_STRONG[quantity] for quantity in ("scale", "spread", "share", "count", "rate")),
    _words("time ms"),
)


def _rightmost(words: Sequence[str], names: Mapping[_Quantity, _Words]) -> _Quantity:
    for word in reversed(words):
        for quantity, named in names.items():
            if word in named:
                return quantity
    return "unknown"


def _is_gradient_norm(words: _Words, quantity: _Quantity) -> bool:
    if words and words <= {"norm", "total", "global"} | _GRADIENT:
        return bool(words & ({"norm"} | _GRADIENT))
    if quantity in {"share", "count", "spread", "time"} and not words & _PARAMETERS:
        return False
    # `grad_norm/layer.weight` is a norm, `grad_norm_threshold` is none.
    is_setting = bool(words & (_STRONG["weight"] - {"weight"}))
    return bool(words & _GRADIENT and words & _NORM) and not is_setting


@dataclass(frozen=True, slots=True)
class _Context:
    """What stands around a quantity in a name."""

    words: _Words
    """Of the whole name."""
    own: _Words
    """From the part that names the quantity on; the whole name's where that part says no more."""
    is_plain: bool
    """Whether that part says no more than that it is a loss, of training or evaluation."""
    family: str

    @property
    def evaluates(self) -> bool:
        return bool(self.words & _EVALUATION)


def _context(path: Sequence[Sequence[str]], at: int, family: str) -> _Context:
    words = frozenset(itertools.chain.from_iterable(path))
    own = frozenset(itertools.chain.from_iterable(path[at:]))
    is_plain = own <= _PLAIN_LOSS
    # `Policy/Loss` is the policy's, `policy_3/value_loss` the value function's.
    return _Context(words, words if is_plain else own, is_plain, family)


def _loss(name: _Context) -> Role:
    own = name.own
    if "penalty" in own and name.words & {"reward", "rewards"}:  # a term, which may honestly fall
        return "value"
    if own & _STRONG["entropy"] and not own & _TUNED:
        return "entropy"
    if own & _STRONG["kl"]:
        return _kl(name)
    if own & (_POLICY | _TUNED) or own == {"a", "loss"}:
        return _loss_of_a_level(name) if own & _CRITIC else "signed_loss"
    if name.is_plain and name.family in {"on_policy", "grpo"} and not own & _OUTSIDE_TOTAL:
        return "signed_loss"
    return _loss_of_a_level(name)


def _loss_of_a_level(name: _Context) -> Role:
    return "eval_loss" if name.evaluates else "loss"


def _error_rate(name: _Context) -> Role:
    return "loss" if name.words & _TRAINING and not name.evaluates else "eval_loss"


def _kl(name: _Context) -> Role:
    if "target" in name.own:
        return "weight"
    if name.words & _OF_A_POLICY:
        return "kl"
    if "kld" not in name.own and name.family not in {"", "supervised"}:
        return "kl"
    if name.family == "" and not name.own & (_STRONG["loss"] | {"kld"}):
        return "kl"
    # The term of a variational autoencoder, or of a distillation.
    return _loss_of_a_level(name)


def _entropy(name: _Context) -> Role:
    return "weight" if "target" in name.own else "entropy"


def _value(name: _Context) -> Role:
    return "weight" if name.own & (_STRONG["kl"] | _STRONG["entropy"]) else "value"


def _count(name: _Context) -> Role:
    return "unknown" if name.own & _NORM else "count"  # `update_norm`


def _spread(name: _Context) -> Role:
    return "unknown" if name.own & _SPREADLESS else "spread"


def _weight(name: _Context) -> Role:
    # A norm or the largest of all weights is no coefficient.
    return "unknown" if name.words & (_PARAMETERS | _NORM | {"largest"}) else "weight"


def _scale(name: _Context) -> Role:
    if name.own & _words("loss_scale scaler loss grad amp fp") or name.own <= {"scale"}:
        return "scale"
    return "spread" if name.own & {"noise", "action"} else "weight"


_AIMS = _words("acc accuracy accuracies top mean avg average epoch step mini") | _TRAINING


def _accuracy(name: _Context) -> Role:
    # YOLO's `metrics/precision` is of the validation data; classifiers are trained for accuracy.
    is_result = "metrics" in name.words and not name.words & _TRAINING
    is_aim = name.family == "supervised" and name.own <= _AIMS
    return "eval_score" if name.evaluates or is_result or is_aim else "share"


def _share(name: _Context) -> Role:
    own = name.own
    if own & _STRONG["accuracy"]:
        return _accuracy(name)
    if "ratio" in own and not own & _PART and not own & _STRONG["share"] - {"ratio"}:
        return "unknown"  # of probabilities, which stands about 1 and may take any size
    return "share"


def _reward(name: _Context) -> Role:
    own = name.own
    if own & _PREFERENCE or (name.words & _CURIOSITY and "extrinsic" not in own):
        return "value"  # the model's own estimates, which may honestly fall
    if own & {"return", "returns"} and name.words & _CRITIC:
        return "value"
    if own & {"cost", "costs"}:
        return _loss_of_a_level(name)
    if own & {"reward", "rewards"}:
        return "reward"
    if own & {"fake", "real"}:  # what a discriminator gives
        return "loss" if "fake" in own else "unknown"
    of_data = name.evaluates or name.words & {"train", "training"}
    is_score = own & _STRONG["eval_score"] or (own & {"score", "scores"} and of_data)
    return "eval_score" if is_score else "reward"


_PLAIN_LOSS = _STATISTIC | _TRAINING | _EVALUATION | _WEAK["count"] | {"loss", "losses"}
_SPREADLESS = _STRONG["loss"] | _STRONG["count"] | _STRONG["time"] | _GRADIENT
_OUTSIDE_TOTAL = _CRITIC | ADVERSARIAL
_AS_NAMED: Mapping[_Quantity, Role] = {role: role for role in get_args(Role)}
_REFINED: Mapping[_Quantity, Callable[[_Context], Role]] = {
    "loss": _loss,
    "eval_loss": _error_rate,
    "accuracy": _accuracy,
    "share": _share,
    "reward": _reward,
    "kl": _kl,
    "entropy": _entropy,
    "value": _value,
    "count": _count,
    "spread": _spread,
    "weight": _weight,
    "scale": _scale,
}
