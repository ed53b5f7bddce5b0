"""optax: a step that is not finite leaves no trace, inside `jit`, and is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class GuardState(NamedTuple):
    """State of a guarded transformation: arrays, so it may go through `jit` and checkpoints.

    Attributes:
        inner: State of what is guarded.
        skipped: int32: steps skipped since `init`.
        skipped_last: int32: 1 if the last step was skipped, else 0.
        nonfinite: int32: gradient arrays of the last step that hold a number that is not finite.
        norm_bits: L2 norm of the last step's gradients as they came in, NaN or infinite if one of
            them is and finite where all are: the bits of a float32 as an int32, since a
            checkpoint that holds a NaN is refused.
    """

    inner: Any
    skipped: jax.Array
    skipped_last: jax.Array
    nonfinite: jax.Array
    norm_bits: jax.Array


def guard(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """A transformation that does what `tx` does, and nothing where that would not be finite.

    A step is skipped if a gradient, or an update that `tx` makes of them, is not finite:
    parameters and the state of `tx`, its counters included, stay bit-identical. It decides on the
    device: nothing waits, and the host need not know. Put it around the whole chain, so that it
    sees the gradients before they are clipped.

    Where gradients differ between devices, as under `shard_map` before a `psum`, average them
    first: each device decides by what it sees.

    Args:
        tx: Any optax transformation. What it keeps must be arrays.
    """
    inner = optax.with_extra_args_support(tx)

    def init(params: Any) -> GuardState:
        # An array each: a buffer that stands there twice cannot be donated.
        return GuardState(inner.init(params), *(jnp.zeros((), jnp.int32) for _ in range(4)))

    def update(
        gradients: Any, state: GuardState, params: Any = None, **more: Any
    ) -> tuple[Any, GuardState]:
        nonfinite, norm = _measured(gradients)
        updates, after = inner.update(gradients, state.inner, params, **more)
        bad_updates, _ = _measured(updates)
        good = (nonfinite == 0) & (bad_updates == 0)
        skipped = 1 - good.astype(jnp.int32)
        next_state = GuardState(
            jax.tree.map(lambda new, old: jnp.where(good, new, old), after, state.inner),
            state.skipped + skipped,
            skipped,
            nonfinite,
            jax.lax.bitcast_convert_type(norm, jnp.int32),
        )
        return jax.tree.map(lambda step: _or_nothing(good, step), updates), next_state

    return optax.GradientTransformationExtraArgs(init, update)


def readings(opt_state: Any) -> Mapping[str, jax.Array]:
    """What the last step was like, for `watch.log`: on the device, so nothing waits.

    Args:
        opt_state: With the state of a guarded transformation somewhere in it; of several, counts
            are summed and the norm is that of all together.

    Returns:
        `train/grad_norm`, `guard/nonfinite_gradients` (arrays) and `guard/skipped` (0 or 1).

    Raises:
        ValueError: Nothing in it is guarded.
    """
    states = _guard_states(opt_state)
    bits = jnp.stack([state.norm_bits for state in states])
    norms = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return {
        "train/grad_norm": jnp.sqrt(jnp.sum(norms**2)) if len(states) > 1 else norms[0],
        "guard/nonfinite_gradients": jnp.sum(jnp.stack([state.nonfinite for state in states])),
        "guard/skipped": jnp.sum(jnp.stack([state.skipped_last for state in states])),
    }


def skipped(opt_state: Any) -> jax.Array:
    """How many steps were skipped since `init`: an int32 on the device.

    Raises:
        ValueError: Nothing in it is guarded.
    """
    return jnp.sum(jnp.stack([state.skipped for state in _guard_states(opt_state)]))


def _guard_states(opt_state: Any) -> list[GuardState]:
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, GuardState))
    states = [leaf for leaf in leaves if isinstance(leaf, GuardState)]
    if not states:
        raise ValueError("no guarded transformation has its state in it: tx = guard(tx)")
    return states


def _measured(tree: Any) -> tuple[jax.Array, jax.Array]:
    """How many arrays are not finite, and the norm over all."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    nonfinite = sum((~jnp.isfinite(leaf).all()).astype(jnp.int32) for leaf in leaves) + jnp.zeros(
        (), jnp.int32
    )
    sizes = [jnp.abs(leaf).astype(jnp.float32) for leaf in leaves if leaf.size]
    if not sizes:
        return nonfinite, jnp.zeros((), jnp.float32)
    norm = jnp.sqrt(sum(jnp.sum(size**2) for size in sizes))
    largest = jnp.max(jnp.stack([size.max() for size in sizes]))
    # Squares of finite numbers may overflow: then the largest stands for the norm.
    return nonfinite, jnp.where(jnp.isinf(norm) & (nonfinite == 0), largest, norm)


def _or_nothing(good: jax.Array, step: jax.Array) -> jax.Array:
    # Adding 0.0 would turn a parameter of -0.0 into 0.0; adding -0.0 changes no bit of any.
    return jnp.where(good, step, jnp.full_like(step, -0.0))
