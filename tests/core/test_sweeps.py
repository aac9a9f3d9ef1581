"""Many runs at once: a state with a first axis under `jax.vmap`, against each run alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.core.helpers import params, same

pytestmark = pytest.mark.optimized  # bits or costs of more than one program are compared

RATES = np.float32([1e-3, 1e-2, 3e-2, 0.3])
DECAYS = np.float32([0.0, 0.1, 0.5, 1.0])
RUNS = len(RATES)

MAKERS = {
    "adamw": jopt.adamw,
    "sgd": lambda: jopt.sgd(0.1, momentum=0.9),
    "chain": lambda: jopt.chain(
        jopt.clip_by_global_norm(1.0),
        jopt.adamw(groups={"no_decay": jopt.group("bias", b1=0.5)}),
    ),
    "wrapped": lambda: jopt.accumulate(jopt.adamw(), 2),
}


def batched(tx, start):
    """A fresh state of all runs, each with its own numbers."""
    state = jax.vmap(tx.init, in_axes=None, axis_size=RUNS)(start)
    return jopt.set_hyperparams(state, learning_rate=RATES, weight_decay=DECAYS)


def alone(tx, start, i):
    """The same of run i alone."""
    return jopt.set_hyperparams(tx.init(start), learning_rate=RATES[i], weight_decay=DECAYS[i])


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def moved(tx, start, state, steps):
    """Parameters and state after gradients that depend on the parameters."""

    def body(carry, seed):
        p, s = carry
        noise = jax.tree.map(lambda x: jnp.sin(seed * x), p)
        updates, s = tx.update(jax.tree.map(jnp.add, p, noise), s, p)
        return (jopt.apply_updates(p, updates), s), None

    return jax.lax.scan(body, (start, state), steps)[0]


@pytest.mark.parametrize("name", MAKERS)
def test_a_member_is_its_separate_run(name):
    # The state to the bit: the arithmetic is elementwise, and a first axis changes nothing in it.
    # The update to one rounding of the parameter: in p·(1 − ηλ) − η·d the compiler may contract
    # either product with the difference, and chooses for each program.
    tx, start = MAKERS[name](), params()
    grads = [jax.tree.map(lambda x, k=k: jnp.cos(k + 3 * x), start) for k in range(3)]
    together = jax.jit(jax.vmap(tx.update, in_axes=(None, 0, None)))
    one = jax.jit(tx.update)
    state, separate = batched(tx, start), [alone(tx, start, i) for i in range(RUNS)]
    for g in grads:
        updates, state = together(g, state, start)
        for i in range(RUNS):
            expected, separate[i] = one(g, separate[i], start)
            same(member(state, i), separate[i])
            off = jax.tree.map(lambda a, b: jnp.abs(a - b), member(updates, i), expected)
            for x, p in zip(jax.tree.leaves(off), jax.tree.leaves(start), strict=True):
                assert (x <= 2.0**-23 * jnp.maximum(jnp.abs(p), 1)).all()
    assert one._cache_size() == together._cache_size() == 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", MAKERS)
def test_whole_runs_agree_to_rounding(name):
    tx, start = MAKERS[name](), jax.tree.map(lambda x: x.astype(jnp.float64), params())
    steps = jnp.arange(20.0)
    together = jax.jit(jax.vmap(lambda s: moved(tx, start, s, steps)))(batched(tx, start))
    one = jax.jit(lambda s: moved(tx, start, s, steps))
    for i in range(RUNS):
        expected = one(alone(tx, start, i))
        for got, want in zip(
            jax.tree.leaves(member(together, i)), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_the_two_ways_to_make_the_state_give_the_same():
    tx, start = jopt.adamw(), params()

    def make(rate, decay):
        return jopt.set_hyperparams(tx.init(start), learning_rate=rate, weight_decay=decay)

    same(jax.vmap(make)(RATES, DECAYS), batched(tx, start))


def test_a_single_number_goes_to_all_runs():
    tx, start = jopt.adamw(), params()
    state = jopt.set_hyperparams(batched(tx, start), weight_decay=0.25)
    numbers = jopt.hyperparams(state)["adamw"]["default"]
    np.testing.assert_array_equal(numbers["weight_decay"], np.full(RUNS, 0.25, np.float32))
    np.testing.assert_array_equal(numbers["learning_rate"], RATES)
    traced = jax.jit(lambda x: jopt.set_hyperparams(state, weight_decay=x))(0.25)
    same(traced, state)


def test_the_numbers_of_all_runs_are_checked():
    state = batched(jopt.adamw(), params())
    with pytest.raises(jopt.ConfigError, match="adamw: learning_rate is out of range") as caught:
        jopt.set_hyperparams(state, learning_rate=[0.1, 0.2, -0.3, 0.4])
    assert "found:    -0.3" in str(caught.value)


def test_schedules_are_swept_by_their_arguments():
    start, steps = params(), jnp.arange(6.0)

    def run(peak):
        tx = jopt.adamw(jopt.schedules.warmup_cosine(peak, 2, 8))
        _, state = moved(tx, start, tx.init(start), steps)
        return jopt.hyperparams(state)["adamw"]["default"]["learning_rate"]

    rates = jax.jit(jax.vmap(run))(RATES)
    expected = [jopt.schedules.warmup_cosine(float(rate), 2, 8)(6) for rate in RATES]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_a_schedule_with_a_memory_is_swept_by_its_number():
    tx, start = jopt.sgd(jopt.schedules.plateau(0.1, patience=0)), params()
    fresh = tx.init(start)
    state = jax.vmap(tx.init, in_axes=None, axis_size=RUNS)(start)
    state = jopt.set_hyperparams(state, learning_rate=RATES)
    separate = [jopt.set_hyperparams(fresh, learning_rate=rate) for rate in RATES]

    def after(s, value):
        return tx.update(start, s, start, value=value)[1]

    one, together = jax.jit(after), jax.jit(jax.vmap(after))
    for values in np.float32([[2] * 4, [1, 3, 1, 3], [0, 3, 3, 0]]):
        state = together(state, values)
        separate = [one(s, value) for s, value in zip(separate, values, strict=True)]
    for i in range(RUNS):
        same(member(state, i), separate[i])
    rates = jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]
    np.testing.assert_allclose(rates / RATES, [1, 0.01, 0.1, 0.1], rtol=1e-6)


def test_a_sweep_is_saved_and_goes_on_and_its_members_are_plain_states(tmp_path):
    tx, start = jopt.adamw(), params()
    on = jax.jit(jax.vmap(lambda p, s: moved(tx, p, s, jnp.arange(3.0))))
    many = jax.tree.map(lambda x: jnp.stack([x] * RUNS), start)
    many, state = on(many, batched(tx, start))
    jopt.save(tmp_path / "sweep.msgpack", state, tx=tx)
    loaded = jopt.load(tmp_path / "sweep.msgpack", like=state, tx=tx)
    same(loaded, state)
    same(on(many, loaded), on(many, state))
    # A member taken out has the layout of a run that has been alone all along.
    best = member(state, 2)
    assert jax.tree.structure(best) == jax.tree.structure(tx.init(start))
    updates, _ = tx.update(start, best, member(many, 2))
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, start)
