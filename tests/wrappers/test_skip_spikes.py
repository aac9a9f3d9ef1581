"""Steps left out because they stand out: against a plain loop, and in compositions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

NORMS = [1.0, 1.2, 0.9, 1.1, 9.0, 1.0, np.nan, 1.3, 0.7, 5.0, 1.2, 1.25, 40.0, 1.1]


def by_hand(xs, window, k):
    recent, took = [], []
    for x in xs:
        last = np.array(recent[-window:])
        ok = np.isfinite(x) and (len(last) < window or x <= last.mean() + k * last.std())
        took.append(bool(ok))
        recent += [x] if ok else []
    return took


@pytest.mark.parametrize(("watch", "k"), [("gradient", 2.0), ("value", 4.0), ("both", 2.0)])
def test_a_plain_loop(watch, k, x64):
    tx = jopt.skip_spikes(jopt.sgd(1.0, momentum=0.5), window=3, deviations=k, watch=watch)
    params = {"a": jnp.zeros(()), "b": jnp.zeros(2)}
    unit = {"a": jnp.full((), 0.6), "b": jnp.array([0.8, 0.0])}
    state = tx.init(params)

    @jax.jit
    def one(params, state, norm, value):
        grads = jax.tree.map(lambda u: u * norm, unit)
        return jopt.step(tx, grads, state, params, value=value)

    values = NORMS[::-1]
    ok = {"gradient": by_hand(NORMS, 3, k), "value": by_hand(values, 3, k)}.get(watch)
    if ok is None:
        ok, kept = [], ([], [])
        for pair in zip(NORMS, values, strict=True):
            took = all(by_hand([*own[-3:], x], 3, k)[-1] for own, x in zip(kept, pair, strict=True))
            ok.append(took)
            for own, x in zip(kept, pair, strict=True) if took else ():
                own.append(x)
    assert not all(ok)
    a = velocity = 0.0
    for norm, value, took in zip(NORMS, values, ok, strict=True):
        params, state = one(params, state, jnp.asarray(norm), jnp.asarray(value))
        if took:
            velocity = 0.5 * velocity + 0.6 * norm
            a -= velocity
        np.testing.assert_allclose(params["a"], a, rtol=1e-12)
        assert (int(state["skip_spikes"]["in_a_row"]["default"]) == 0) == took
    assert int(state["skip_spikes"]["total"]["default"]) == ok.count(False)


def test_equal_norms_are_no_spikes():
    tx = jopt.skip_spikes(jopt.sgd(1.0), window=3, deviations=0.0)
    params, state = jnp.float32(0), tx.init(jnp.float32(0))
    for _ in range(8):
        params, state = jopt.step(tx, jnp.float32(0.1), state, params)
    assert int(state["skip_spikes"]["total"]["default"]) == 0


def test_what_stands_behind_rests_and_no_metric_is_lost():
    rate = jopt.schedules.plateau(1.0, factor=0.5, patience=0, nan="skip")
    tx = jopt.ema(jopt.skip_large_updates(jopt.sgd(rate), 2.0), decay=0.5)
    params, state = jnp.float32(0), tx.init(jnp.float32(0))
    value = (1.0, 1.0, np.nan, np.nan)  # worse once, at a step that is left out
    for g, v in zip((1.0, 3.0, 1.0, 1.0), value, strict=True):
        params, state = jopt.step(tx, jnp.float32(g), state, params, value=jnp.float32(v))
    assert float(params) == -2.5
    assert int(state["ema"]["count"]) == 3
    assert int(state["skip_large_updates"]["total"]["default"]) == 1


def test_none_for_every_gradient_is_no_step_left_out():
    tx = jopt.skip_spikes(jopt.sgd(1.0), window=2)
    params = {"w": jnp.float32(0)}
    _, state = jopt.step(tx, {"w": None}, tx.init(params), params)
    assert int(state["skip_spikes"]["total"]["default"]) == 0
