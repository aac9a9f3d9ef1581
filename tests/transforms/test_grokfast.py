"""What amplifies the slow part of gradients, against the lines of its paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

STEPS, SIZE = 9, 4
GRADS = np.random.default_rng(0).normal(size=(STEPS, 2, 3))


def by_mean(alpha=0.7, lamb=3.0):
    mu = GRADS[0]
    for g in GRADS:
        mu = alpha * mu + (1 - alpha) * g
        yield g + lamb * mu


def by_window(reduce, warmup, lamb=3.0):
    for t in range(STEPS):
        last = GRADS[max(0, t - SIZE + 1) : t + 1]
        full = not warmup or len(last) == SIZE
        yield GRADS[t] + full * lamb * getattr(last, reduce)(0)


CASES = {
    "ema": (jopt.grokfast(decay=0.7, gain=3.0), by_mean),
    "mean": (jopt.grokfast_ma(gain=3.0, window_size=SIZE), lambda: by_window("mean", True)),
    "sum": (
        jopt.grokfast_ma(gain=3.0, window_size=SIZE, reduce="sum", warmup=False),
        lambda: by_window("sum", False),
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CASES)
def test_the_papers_lines(name):
    tx, loop = CASES[name]

    def step(state, g):
        updates, state = tx.update({"w": g}, state)
        return state, updates["w"]

    found = jax.lax.scan(step, tx.init({"w": GRADS[0]}), jnp.asarray(GRADS))[1]
    np.testing.assert_allclose(found, [*loop()], rtol=1e-12)


def test_a_leaf_that_was_absent_has_a_shorter_window():
    tx = jopt.grokfast_ma(gain=1.0, window_size=2)
    a, b = (jnp.float32(x) for x in (1.0, 3.0))
    params = {"a": a, "b": a}
    _, state = tx.update({"a": a, "b": None}, tx.init(params), params)
    updates, _ = tx.update({"a": b, "b": b}, state, params)
    assert (float(updates["a"]), float(updates["b"])) == (5.0, 3.0)


def test_a_window_in_eight_bits_keeps_what_it_holds():
    # Rows of a block each, so that a new gradient touches no other.
    tx = jopt.grokfast_ma(window_size=3, state_dtype="int8")
    wide = jopt.grokfast_ma(window_size=3)
    rng = np.random.default_rng(0)
    g = {"w": jnp.asarray(rng.normal(size=(16, 256)), jnp.float32)}
    _, state = tx.update(g, tx.init(g))
    before = jopt.convert_state(wide, state, g)["grokfast_ma"]["window"]["w"]
    for _ in range(2):
        _, state = tx.update({"w": 100 * g["w"]}, state)
    after = jopt.convert_state(wide, state, g)["grokfast_ma"]["window"]["w"]
    assert jnp.array_equal(after[0], before[0])
    assert float(jnp.max(jnp.abs(before[0] - g["w"]))) < 0.03 * float(jnp.max(jnp.abs(g["w"])))


def test_reduce_is_a_choice():
    with pytest.raises(jopt.JoptError, match="reduce is unknown"):
        jopt.grokfast_ma(reduce="median")
