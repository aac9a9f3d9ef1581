"""What stands behind a part that may take no step: it sees real steps, and their metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jopt

W = {"w": jnp.float32(100.0)}
SGD = jopt.sgd(1.0)


def run(tx, grads, how, params=W, extra=lambda i: {}):
    @jax.jit
    def step(g, state, params, extra):
        if how == "step":
            return jopt.step(tx, g, state, params, **extra)
        updates, state = tx.update(g, state, params, **extra)
        return jopt.apply_updates(params, updates), state

    state = tx.init(params)
    for i, g in enumerate(grads):
        params, state = step({"w": jnp.float32(g)}, state, params, extra(i))
    return params, state


def average(steps, decay, start=100.0):
    """The plain loop: a copy at the first step, then one part in (1 - decay)."""
    p, a = start, None
    for g in steps:
        p -= g
        a = p if a is None else a + (1 - decay) * (p - a)
    return p, a


def real(grads, *, every=1, finite=True):
    """The steps of these gradients, a plain loop: NaN left out, then means of rounds."""
    kept = [g for g in grads if np.isfinite(g)] if finite else list(grads)
    rounds = [kept[i : i + every] for i in range(0, len(kept), every)]
    return [float(np.mean(r)) for r in rounds if len(r) == every]


SPOILED = [np.nan if i % 3 == 1 else float(i % 5 - 1) for i in range(21)]
PLAIN = [float(i % 5 - 1) for i in range(21)]
INSIDE = {
    "accumulate": (jopt.accumulate(SGD, every=4), PLAIN, real(PLAIN, every=4)),
    "skip": (jopt.skip_nonfinite(SGD), SPOILED, real(SPOILED)),
    "skip of accumulate": (
        jopt.skip_nonfinite(jopt.accumulate(SGD, every=4)),
        SPOILED,
        real(SPOILED, every=4),
    ),
    "accumulate of skip": (
        jopt.accumulate(jopt.skip_nonfinite(SGD), every=2),
        [*PLAIN[:2], np.nan, 1.0, *PLAIN[2:6], 2.0],
        real([*PLAIN[:2], *PLAIN[2:6]], every=2),
    ),
    "accumulate twice": (
        jopt.accumulate(jopt.accumulate(SGD, every=2), every=2),
        PLAIN,
        real(PLAIN, every=4),
    ),
    "masters between": (
        jopt.master_weights(jopt.accumulate(SGD, every=4)),
        PLAIN,
        real(PLAIN, every=4),
    ),
}  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("how", ["update", "step"])
@pytest.mark.parametrize("name", INSIDE)
def test_averages_see_real_steps(name, how):
    tx, grads, steps = INSIDE[name]
    params, state = run(jopt.ema(tx, decay=0.75), grads, how)
    p, a = average(steps, 0.75)
    np.testing.assert_allclose(params["w"], p, rtol=1e-6)
    np.testing.assert_allclose(jopt.eval_params(state, params)["w"], a, rtol=1e-6)
    assert int(state["ema"]["count"]) == len(steps)


@pytest.mark.parametrize("how", ["update", "step"])
def test_every_eighth_of_a_hundred(how):
    params, state = run(jopt.ema(jopt.accumulate(SGD, every=8), decay=0.9), [1.0] * 100, how)
    p, a = average([1.0] * 12, 0.9)
    np.testing.assert_allclose(params["w"], p)
    np.testing.assert_allclose(jopt.eval_params(state, params)["w"], a, rtol=1e-6)


@pytest.mark.parametrize("how", ["update", "step"])
def test_swa_starts_and_counts_by_real_steps(how):
    tx = jopt.swa(jopt.accumulate(SGD, every=2), start=3, every=2)
    params, state = run(tx, [1.0] * 20, how)  # ten steps: 99, ..., 90; averaged: 4, 6, 8, 10
    np.testing.assert_allclose(jopt.eval_params(state, params)["w"], np.mean([96, 94, 92, 90]))


def test_an_optimizer_behind_steps_once_a_round():
    tx = jopt.chain(
        jopt.accumulate(jopt.clip_by_value(1.0), every=2),
        jopt.sgd(jopt.schedules.linear(1.0, 0.0, 4), momentum=0.5),
    )
    alone = jopt.sgd(jopt.schedules.linear(1.0, 0.0, 4), momentum=0.5)
    for how in ("update", "step"):
        params, state = run(tx, [0.5, 1.0, -0.25, 0.75, 0.5], how)
        want, inner = run(alone, [0.75, 0.25], how)
        np.testing.assert_allclose(params["w"], want["w"], rtol=1e-6)
        assert int(state["sgd"]["count"]) == int(inner["sgd"]["count"]) == 2
        assert state["sgd"]["schedules"] == inner["sgd"]["schedules"]


def test_between_steps_nothing_behind_is_touched():
    tx = jopt.ema(jopt.accumulate(jopt.adamw(0.1), every=4))
    params = {"w": jnp.ones((64, 64)), "still": jnp.ones((64, 64))}
    groups = {"still": jopt.group("still", freeze=True)}
    frozen = jopt.ema(jopt.accumulate(jopt.adamw(0.1, groups=groups), every=4))
    state = tx.init(params)
    _, after = jopt.step(tx, params, state, params)
    for part in ("ema", "accumulate"):
        before, now = state[part], after[part]
        kept = {k: v for k, v in now.items() if k not in ("sum", "micro")}
        jax.tree.map(np.testing.assert_array_equal, kept, {k: before[k] for k in kept})
    # The parameters and averages go into the loop, the frozen ones stay out of it.
    text = str(jax.make_jaxpr(lambda s, p: jopt.step(frozen, p, s, p))(frozen.init(params), params))
    assert "while" in text
    bound = jax.make_jaxpr(lambda s, p: jopt.step(frozen, p, s, p)[0]["still"])(
        frozen.init(params), params
    ).jaxpr
    assert bound.outvars[0] in bound.invars


def test_routes_that_disagree_are_refused_with_the_right_order():
    uneven = jopt.route(SGD, a=("^w$", jopt.accumulate(SGD, every=2)))
    for behind in (lambda: jopt.ema(uneven), lambda: jopt.swa(jopt.master_weights(uneven))):
        with pytest.raises(jopt.ConfigError, match=r"accumulate\(route\(\.\.\.\), every\)"):
            behind()
    jopt.chain(uneven, jopt.clip_by_value(1.0))  # which remembers nothing
    inside = jopt.route(SGD, a=("^w$", jopt.ema(jopt.accumulate(SGD, every=2), decay=0.5)))
    params = {"w": jnp.float32(100.0), "v": jnp.float32(0.0)}
    state = inside.init(params)
    for _ in range(6):
        params, state = jopt.step(inside, jax.tree.map(jnp.ones_like, params), state, params)
    found = jopt.eval_params(state, params)
    np.testing.assert_allclose(found["w"], average([1.0] * 3, 0.5)[1])


PLATEAU = {"factor": 0.5, "patience": 0, "nan": "skip"}
METRICS = {
    "accumulate": lambda tx: jopt.accumulate(tx, every=4),
    "clip inside": lambda tx: jopt.accumulate(jopt.chain(jopt.clip_by_value(9.0), tx), every=4),
    "masters": lambda tx: jopt.accumulate(jopt.master_weights(tx), every=4),
    "routed": lambda tx: jopt.accumulate(jopt.route(tx), every=4),
    "behind": lambda tx: jopt.chain(jopt.accumulate(jopt.clip_by_value(9.0), every=4), tx),
    "skip around": lambda tx: jopt.skip_nonfinite(jopt.accumulate(tx, every=4)),
}


def rates(state):
    found = [n["default"] for n in jopt.hyperparams(state).values() if "default" in n]
    return [float(n["learning_rate"]) for n in found if "learning_rate" in n]


@pytest.mark.sampled
@pytest.mark.parametrize("at", [0, 2, 3])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_given_anywhere_in_a_round_is_seen(name, at):
    tx = METRICS[name](jopt.sgd(jopt.schedules.plateau(1.0, **PLATEAU)))

    def metric(i):
        return {"value": jnp.float32(3.0 if i % 4 == at else np.nan)}

    params, state = run(tx, [1.0] * 16, "step", extra=metric)
    plain = jopt.sgd(jopt.schedules.plateau(1.0, **PLATEAU))
    want, alone = run(plain, [1.0] * 4, "step", extra=lambda i: {"value": jnp.float32(3.0)})
    np.testing.assert_allclose(params["w"], want["w"])
    assert rates(state) == rates(alone)


def test_a_round_has_the_mean_of_its_finite_metrics():
    values = [1.0, np.nan, 3.0, np.inf, np.nan, np.nan, 2.5, 1.5]
    tx = jopt.accumulate(jopt.sgd(jopt.schedules.plateau(1.0)), every=4)
    _, state = run(tx, [1.0] * 4, "update", extra=lambda i: {"value": jnp.float32(values[i])})
    memory = state["accumulate"]["inner"]["sgd"]["schedules"]["default"]["learning_rate"]
    assert float(memory["best"]) == 2.0
    none = [np.nan] * 4  # its own rule says what none is: bad, or nothing
    for nan, bad in (("bad", 1), ("skip", 0)):
        tx = jopt.accumulate(jopt.sgd(jopt.schedules.plateau(1.0, nan=nan)), every=4)
        _, state = run(tx, [1.0] * 4, "update", extra=lambda i: {"value": jnp.float32(none[i])})
        memory = state["accumulate"]["inner"]["sgd"]["schedules"]["default"]["learning_rate"]
        assert int(memory["bad"]) == bad


def test_a_metric_of_a_step_left_out_comes_with_the_next_that_has_none():
    def last(tx, metrics, grads):
        _, state = run(tx, grads, "update", extra=lambda i: {"value": jnp.float32(metrics[i])})
        inner = state["skip_nonfinite"]["inner"]["sgd"]
        return float(inner["schedules"]["default"]["learning_rate"]["best"])

    tx = jopt.skip_nonfinite(jopt.sgd(jopt.schedules.plateau(1.0, **PLATEAU)))
    grads = [np.nan, np.inf, 1.0]
    assert last(tx, [3.0, 5.0, np.nan], grads) == 4.0
    assert (
        last(tx, [3.0, 5.0, 2.0], grads) == 2.0
    )  # one that has its own is as if none were left out
    assert last(tx, [3.0, np.nan, np.nan, 9.0], [*grads, 1.0]) == 3.0


@pytest.mark.parametrize("place", ["inside", "behind"])
def test_a_foreign_part_gets_the_metric_of_the_round(place):
    reduce = optax.contrib.reduce_on_plateau(factor=0.5, patience=0)
    tx = (
        jopt.accumulate(jopt.chain(SGD, reduce), every=2)
        if place == "inside"
        else jopt.chain(jopt.accumulate(SGD, every=2), reduce)
    )
    with jax.numpy_dtype_promotion("standard"):
        metric = [4.0, 2.0, 8.0, 2.0, 1.0, 1.0]  # of rounds: 3, 5, 1
        params, state = run(
            tx, [1.0] * 6, "update", extra=lambda i: {"value": jnp.float32(metric[i])}
        )
        alone = jopt.chain(SGD, reduce)
        values = [3.0, 5.0, 1.0]
        want, own = run(
            alone, [1.0] * 3, "update", extra=lambda i: {"value": jnp.float32(values[i])}
        )
    node = state["accumulate"]["inner"] if place == "inside" else state
    np.testing.assert_allclose(params["w"], want["w"])
    jax.tree.map(np.testing.assert_array_equal, node["foreign"], own["foreign"])


def test_nothing_is_kept_that_nobody_wants():
    for tx in (jopt.accumulate(SGD, every=2), jopt.skip_nonfinite(jopt.adamw())):
        [node] = tx.init(W).values()
        assert "metrics" not in node
