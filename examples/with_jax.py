"""A JAX loop: a regression whose data breaks at step 60.

    pip install ".[jax]" && python with_jax.py

Inside `jit` parameters and optimizer stay as they were, the halt names the loss that became NaN,
and the last good checkpoint is restored. Started again, it goes on from there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import watchstep
from watchstep.integrations.jax import guard, readings, skipped

TX = guard(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03)))


def loss_of(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ params["in"])
    return jnp.mean((hidden @ params["out"] - jnp.sin(x.sum(1, keepdims=True))) ** 2)


@jax.jit
def train_step(
    params: dict[str, jax.Array], opt_state: Any, x: jax.Array
) -> tuple[dict[str, jax.Array], Any, jax.Array]:
    loss, gradients = jax.value_and_grad(loss_of)(params, x)
    updates, opt_state = TX.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def batch(step: int) -> jax.Array:
    x = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (64, 4))
    return x.at[0, 0].set(jnp.nan) if step >= 60 else x


def train(watch: watchstep.Watch, state: dict) -> None:
    for step in range(1, 101):
        params, opt_state, loss = train_step(state["params"], state["opt"], batch(step))
        state.update(params=params, opt=opt_state)
        watch.log({"train/loss": loss, **readings(opt_state)}, step=step)
        if step % 20 == 0:
            watch.save(state, step=step)


def main() -> None:
    first, second = jax.random.split(jax.random.key(1))
    params = {"in": jax.random.normal(first, (4, 32)), "out": jax.random.normal(second, (32, 1))}
    state = {"params": params, "opt": TX.init(params)}
    watch = watchstep.init(
        run="jax", rules="pretrain", checkpoints="jax-checkpoints", on_critical="halt"
    )
    try:
        train(watch, state)
    except watchstep.TrainingHalted as halted:
        print(f"caught: {halted.rule}")
    finite = all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state["params"]))
    print(f"weights finite: {finite}, skipped steps: {int(skipped(state['opt']))}")
    good = watch.restore(state)  # fills the dict: arrays of JAX cannot be changed in place
    print(
        f"good checkpoint: step {good.step}, loss {float(loss_of(state['params'], batch(1))):.3f}"
    )


if __name__ == "__main__":
    main()
