"""Running states of optax's wrappers and of what stands in its chains move in, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.interop.optax import export_state, import_state

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(2)}
PERIOD = 3


def gradient(params):
    return jax.tree.map(lambda x: x**2 - 0.3, params)


def one_in_two(step, **extra):
    return step % 2 == 0


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def theirs_run(tx, params, state, steps, of=lambda params: params):
    update = jax.jit(tx.update)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            updates, state = update(gradient(of(params)), state, params)
            params = optax.apply_updates(params, updates)
    return params, state


def ours_run(tx, params, state, steps):
    for _ in range(steps):
        params, state = jopt.step(tx, gradient(params), state, params)
    return params, state


@pytest.mark.parametrize(("steps", "reset"), [(2, False), (PERIOD, True)])
def test_lookahead_goes_on_within_its_period_and_back(steps, reset):
    theirs = optax.lookahead(optax.adam(0.1), PERIOD, 0.5, reset_state=reset)
    tx = jopt.lookahead(jopt.adam(0.1), sync_period=PERIOD, reset_state=reset)
    pair, old = optax.LookaheadParams.init_synced(PARAMS), None
    pair, old = theirs_run(theirs, pair, theirs.init(pair), steps, lambda pair: pair.fast)
    state = import_state(tx, pair, old)
    same(jopt.eval_params(state, pair.fast), pair.slow)

    back = export_state(tx, pair.fast, state, theirs.init(pair))
    same(back, old)
    params, state = ours_run(tx, pair.fast, state, 4)
    pair, old = theirs_run(theirs, pair, old, 4, lambda pair: pair.fast)
    same(params, pair.fast)
    same(jopt.eval_params(state, params), pair.slow)


def test_lookahead_asks_for_what_it_cannot_know():
    theirs, tx = (optax.lookahead(optax.sgd(0.1), 3, 0.5), jopt.lookahead(jopt.sgd(0.1)))
    pair = optax.LookaheadParams.init_synced(PARAMS)
    pair, old = theirs_run(theirs, pair, theirs.init(pair), 2, lambda pair: pair.fast)
    with pytest.raises(jopt.StateError, match="slow weights are in optax's parameters"):
        import_state(tx, pair.fast, old)
    with pytest.raises(jopt.StateError, match="farther into its period"):
        import_state(jopt.lookahead(jopt.sgd(0.1), sync_period=2), pair, old)
    with pytest.raises(jopt.StateError, match="no part of tx takes it"):
        import_state(jopt.sgd(0.1), pair, old)
    with pytest.raises(jopt.StateError, match="lookahead/average"):
        import_state(tx, PARAMS, optax.sgd(0.1).init(PARAMS), count=0)
    assert int(import_state(tx, pair, old)["lookahead"]["count"]) == 2


@pytest.mark.parametrize("otherwise", ["rest", pytest.param("pass", marks=pytest.mark.slow)])
def test_a_condition_goes_on_with_the_updates_it_has_seen(otherwise):
    if otherwise == "rest":
        theirs = optax.conditionally_mask(optax.adam(0.1), one_in_two)
        tx = jopt.conditionally(jopt.adam(0.1), one_in_two)
    else:
        inner = optax.conditionally_transform(optax.trace(0.9), one_in_two)
        theirs = optax.chain(inner, optax.scale(-0.1))
        held = jopt.conditionally(jopt.trace(0.9), one_in_two, otherwise="pass")
        tx = jopt.chain(held, jopt.scale(-0.1))
    params, old = theirs_run(theirs, PARAMS, theirs.init(PARAMS), 3)
    state = import_state(tx, params, old, count=2)
    assert int(state["conditionally"]["count"]) == 3
    same(export_state(tx, params, state, theirs.init(params)), old)
    same(ours_run(tx, params, state, 3)[0], theirs_run(theirs, params, old, 3)[0])


def test_rprop_goes_on_without_the_step_that_optax_is_late_by():
    theirs, tx = optax.rprop(0.1), jopt.rprop(0.1)
    params, old = theirs_run(theirs, PARAMS, theirs.init(PARAMS), 3)
    state = import_state(tx, params, old, count=3)
    same(export_state(tx, params, state, theirs.init(params)), old)
    late, _ = theirs_run(theirs, params, old, 1)
    _, new = theirs.update(gradient(params), old, params)
    after, _ = ours_run(tx, params, state, 1)
    same(after, jax.tree.map(lambda p, u: p - u, params, new[0].prev_updates))
    assert not np.allclose(after["w"], late["w"])


def test_what_only_looks_on_is_passed_over():
    norm = optax.tree.norm
    theirs = optax.chain(
        optax.zero_nans(),
        optax.snapshot("norm", norm),
        optax.monitor({"size": norm}),
        optax.add_decayed_weights(optax.constant_schedule(0.1)),
        optax.adam(0.1),
    )
    tx = jopt.chain(jopt.zero_nans(), jopt.add_decayed_weights(0.1), jopt.adam(0.1))
    params, old = theirs_run(theirs, PARAMS, theirs.init(PARAMS), 2)
    state = import_state(tx, params, old)
    same(ours_run(tx, params, state, 2)[0], theirs_run(theirs, params, old, 2)[0])
