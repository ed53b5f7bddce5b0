"""JAX on the CPU: steps that leave no trace inside `jit`, and checkpoints without torch."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import watchstep
from watchstep.checkpoint import CheckpointKeeper, verify
from watchstep.errors import CheckpointError

jax = pytest.importorskip("jax", reason="needs jax and optax: the extra for jax")
optax = pytest.importorskip("optax", reason="needs jax and optax: the extra for jax")
jnp = jax.numpy
np = pytest.importorskip("numpy")


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def params() -> dict[str, Any]:
    # Numbers of every kind: a sum with 0.0 would lose the sign of -0.0.
    return {
        "w": jnp.array([1.0, -0.0, 1e30, -3.5]),
        "half": jnp.array([1.0, -0.0], jnp.bfloat16),
        "none": None,
    }


def gradients(value: float) -> dict[str, Any]:
    return {
        "w": jnp.array([0.1, 0.2, value, 0.4]),
        "half": jnp.array([0.5, 0.5], jnp.bfloat16),
        "none": None,
    }


def step_of(tx: Any) -> Any:
    @jax.jit
    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


CHAINS = {
    "adamw": lambda: optax.adamw(0.1),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "schedule": lambda: optax.lion(optax.cosine_decay_schedule(0.1, 10)),
}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", CHAINS)
def test_a_step_that_is_not_finite_leaves_every_bit_as_it_was(kind: str, bad: float) -> None:
    from watchstep.integrations.jax import guard, readings, skipped

    tx = guard(CHAINS[kind]())
    step, state = step_of(tx), tx.init(params())
    good, state = step(params(), state, gradients(0.3))

    after, bad_state = step(good, state, gradients(bad))

    assert bits(after) == bits(good)
    assert bits(bad_state.inner) == bits(state.inner)
    assert int(skipped(bad_state)) == 1
    numbers = {name: float(value) for name, value in readings(bad_state).items()}
    assert (numbers["guard/skipped"], numbers["guard/nonfinite_gradients"]) == (1.0, 1.0)
    assert not math.isfinite(numbers["train/grad_norm"])


@pytest.mark.parametrize("kind", CHAINS)
def test_a_finite_step_is_what_it_would_be_without_the_guard(kind: str) -> None:
    from watchstep.integrations.jax import guard, readings

    plain, guarded = CHAINS[kind](), guard(CHAINS[kind]())
    expected, other = (params(), plain.init(params())), (params(), guarded.init(params()))

    for value in (0.3, -2.0, 1e-8):
        expected = step_of(plain)(*expected, gradients(value))
        other = step_of(guarded)(*other, gradients(value))

    assert bits(other[0]) == bits(expected[0])
    assert bits(other[1].inner) == bits(expected[1])
    norm = float(readings(other[1])["train/grad_norm"])
    assert norm == pytest.approx(math.sqrt(0.01 + 0.04 + 0.16 + 0.5), rel=1e-3)


def test_finite_gradients_whose_squares_overflow_have_a_finite_norm() -> None:
    from watchstep.integrations.jax import guard, readings

    tx = guard(optax.sgd(1e-30))
    _, state = step_of(tx)(params(), tx.init(params()), gradients(1e30))

    assert float(readings(state)["train/grad_norm"]) == pytest.approx(1e30)


def test_what_the_chain_makes_of_finite_gradients_is_looked_at_too() -> None:
    from watchstep.integrations.jax import guard, skipped

    tx = guard(optax.scale(1e30))
    after, state = step_of(tx)(params(), tx.init(params()), gradients(1e30))

    assert bits(after) == bits(params())
    assert int(skipped(state)) == 1


def test_state_of_a_guard_inside_a_chain_is_found_and_its_absence_is_told() -> None:
    from watchstep.integrations.jax import guard, readings

    inside = optax.chain(guard(optax.adam(0.1)), optax.scale(2.0))

    assert set(readings(inside.init(params()))) == {
        "train/grad_norm", "guard/nonfinite_gradients", "guard/skipped",
    }  # fmt: skip
    with pytest.raises(ValueError, match="tx = guard"):
        readings(optax.adam(0.1).init(params()))


def test_a_training_that_breaks_is_halted_on_finite_weights_and_comes_back(tmp_path: Path) -> None:
    from watchstep.integrations.jax import guard, readings

    tx = guard(optax.adam(0.05))

    @jax.jit
    def train_step(params: Any, state: Any, x: Any) -> Any:
        loss, grads = jax.value_and_grad(lambda p: ((x @ p["w"] - x.sum(1)) ** 2).mean())(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    start = {"w": jnp.zeros(3)}
    state: dict[str, Any] = {"params": start, "opt": tx.init(start), "key": jax.random.key(7)}
    watch = watchstep.init(
        run="jax", directory=tmp_path, mode="offline", rules="pretrain", on_critical="halt",
        checkpoints=tmp_path / "ckpt",
    )  # fmt: skip
    kept = []

    def train() -> None:
        for step in range(1, 60):
            x = jax.random.normal(jax.random.fold_in(state["key"], step), (16, 3))
            x = x.at[0, 0].set(jnp.nan) if step >= 40 else x
            new, opt, loss = train_step(state["params"], state["opt"], x)
            state.update(params=new, opt=opt)
            watch.log({"train/loss": loss, **readings(opt)}, step=step)
            if step == 30:
                watch.save(state, step=step)
                kept.extend(bits([new, opt]))

    with pytest.raises(watchstep.TrainingHalted) as halted:
        train()
    assert watch.errors == {}
    assert halted.value.rule == "LossNonFinite"
    assert bool(jnp.isfinite(state["params"]["w"]).all())

    again: dict[str, Any] = {"params": start, "opt": tx.init(start), "key": jax.random.key(0)}
    good = watch.restore(again)

    assert good.step == 30
    assert bits([again["params"], again["opt"]]) == kept
    assert jax.random.key_data(again["key"]).tolist() == jax.random.key_data(state["key"]).tolist()
    assert verify(good.path).step == 30


def test_a_tree_of_every_kind_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = {
        "params": params(),
        "opt": optax.adamw(0.1).init(params()),
        "step": 7,
        "rate": 0.5,
        "ints": jnp.arange(3, dtype=jnp.uint8),
        "host": np.arange(4.0),
        "empty": jnp.zeros((0, 2)),
        "nested": [jnp.array(1), (jnp.ones((2, 2), jnp.float16), None)],
    }
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(state, step=1)
    blank = jax.tree.map(lambda leaf: leaf * 0, state)

    keeper.restore(blank)

    assert bits(blank) == bits(state)
    assert jax.tree.structure(blank) == jax.tree.structure(state)
    assert (type(blank["step"]), blank["step"], blank["rate"]) == (int, 7, 0.5)


def test_a_tree_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save({"a": {"w": jnp.ones(2)}, "b": jnp.ones(3)}, step=1)
    targets = {"a": {"w": jnp.zeros(2)}, "b": jnp.zeros(4)}

    with pytest.raises(CheckpointError, match="float32\\[3\\], expected float32\\[4\\]"):
        keeper.restore(targets)
    with pytest.raises(CheckpointError, match="lacks"):
        keeper.restore({"a": {"w": jnp.zeros(2), "v": jnp.zeros(1)}})

    assert targets["a"]["w"].tolist() == [0.0, 0.0]


def test_what_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path)

    refused = keeper.save({"p": {"w": jnp.array([1.0, math.nan], jnp.bfloat16)}}, step=1)

    assert refused is not None
    assert (refused.finite, refused.bad_tensor, refused.nonfinite) == (False, "['p']['w']", 1)
    assert keeper.list() == []


def test_an_asynchronous_save_keeps_what_was_there_although_the_buffer_is_donated(
    tmp_path: Path,
) -> None:
    keeper = CheckpointKeeper(tmp_path, asynchronous=True)
    overwrite = jax.jit(lambda w: w * 0, donate_argnums=0)
    w = jnp.ones(100_000)

    keeper.save({"w": w}, step=1)
    w = overwrite(w)
    keeper.flush()
    targets = {"w": w}
    keeper.restore(targets)

    assert float(targets["w"].sum()) == 100_000


def test_a_loop_on_jax_is_watched_guarded_and_saved_without_torch(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "with_jax.py"
    program = (
        "import runpy, sys\nsys.modules['torch'] = None\n"
        f"runpy.run_path({str(example)!r}, run_name='__main__')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "caught: LossNonFinite" in done.stdout
    assert "weights finite: True" in done.stdout
    assert list((tmp_path / "jax-checkpoints" / "pinned").glob("*.npz"))
