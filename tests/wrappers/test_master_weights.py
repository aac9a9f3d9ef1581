"""Masters: the run of wide parameters, seen through their rounding, in every composition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt import schedules as s
from tests.core.helpers import error, same
from tests.wrappers.masters import (
    PARAMS,
    RUNS,
    as_given,
    by_step,
    by_update,
    each_run,
    grads_at,
    runner,
    widened,
)

INSIDE = {
    "adamw": jopt.adamw(
        s.cosine(0.01, 20),
        weight_decay=0.1,
        groups={"slow": jopt.group("bias$", learning_rate=1e-4)},
    ),
    "sgd": jopt.sgd(1e-3, momentum=0.9),
    "chain": jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(0.01), jopt.clip_by_value(0.005)),
    "ema": jopt.ema(jopt.adamw(0.01), decay=0.9),
    "accumulate": jopt.accumulate(jopt.adamw(0.01), every=2),
    "skip_nonfinite": jopt.skip_nonfinite(jopt.adamw(0.01)),
    "route": jopt.route(jopt.adamw(0.01), half=("half", jopt.sgd(0.01))),
    "muon": jopt.recipes.muon_adamw(0.01),
    "foreign": jopt.chain(jopt.clip_by_global_norm(1.0), optax.sgd(0.01, momentum=0.9)),
}
OUTSIDE = {
    "chain": lambda tx: jopt.chain(jopt.clip_by_global_norm(1.0), tx),
    "ema": lambda tx: jopt.ema(tx, decay=0.9),
    "accumulate": lambda tx: jopt.accumulate(tx, every=2),
    "skip_nonfinite": jopt.skip_nonfinite,
}


@pytest.mark.optimized  # bits of two programs are compared
@each_run
@pytest.mark.sampled
@pytest.mark.parametrize("tx", INSIDE.values(), ids=INSIDE)
def test_masters_and_state_are_those_of_wide_parameters(tx, run):
    wide, inner = run(tx, widened(PARAMS), range(6))
    params, state = run(jopt.master_weights(tx), PARAMS, range(6))
    node = state["master_weights"]
    same(node["inner"], inner)
    same(node["master"], {k: wide[k] for k in ("half", "low")})
    same(params, as_given(wide))


@each_run
@pytest.mark.sampled
@pytest.mark.parametrize("wrap", OUTSIDE.values(), ids=OUTSIDE)
def test_within_other_wrappers(wrap, run):
    inner = jopt.adamw(0.01)
    wide, _ = run(wrap(inner), widened(PARAMS), range(6))
    params, _ = run(wrap(jopt.master_weights(inner)), PARAMS, range(6))
    same(params, as_given(wide))


@each_run
def test_an_average_outside_is_one_of_what_the_model_computes_with(run):
    plain = jopt.master_weights(jopt.adamw(0.01))
    _, state = run(jopt.ema(plain, decay=0.5), PARAMS, range(3))
    seen = [widened(run(plain, PARAMS, range(n))[0]) for n in (1, 2, 3)]
    mean = jax.tree.map(lambda a, b, c: a / 4 + b / 4 + c / 2, *seen)
    found = state["ema"]["average"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, mean)


def test_both_ways_are_one_run_and_can_alternate():
    tx = jopt.master_weights(jopt.adamw(0.01))
    ways = [runner(tx, how) for how in RUNS]
    params, state = PARAMS, tx.init(PARAMS)
    for i in range(6):
        params, state = ways[i % 2](params, [i], state)
    for run in ways:
        same((params, state), run(PARAMS, range(6)))


def test_stochastic_rounding_leaves_masters_and_their_parameters_alone():
    tx = jopt.master_weights(jopt.adamw(0.01))
    step = jax.jit(lambda g, s, p, k: jopt.step(tx, g, s, p, rounding="stochastic", key=k))
    params, state = PARAMS, tx.init(PARAMS)
    for i in range(4):
        params, state = step(grads_at(i), state, params, jax.random.key(i))
    same((params, state), by_step(tx, PARAMS, range(4)))


def test_in_a_scan_nothing_of_the_state_changes_shape():
    tx = jopt.master_weights(jopt.adamw(0.01))

    def body(carry, i):
        params, state = carry
        return jopt.step(tx, grads_at(i), state, params), None

    start = (PARAMS, tx.init(PARAMS))
    after, _ = jax.jit(lambda c: jax.lax.scan(body, c, jnp.arange(4.0)))(start)
    same(jax.tree.map(jnp.shape, after), jax.tree.map(jnp.shape, start))
    want, _ = by_step(tx, PARAMS, range(4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(*widened((a, b)), rtol=1e-2), after[0], want
    )


@each_run
def test_a_weight_of_one_moves_by_a_hundred_steps_too_small_for_it(run):
    params, ones = {"w": jnp.ones(3, "bfloat16")}, {"w": jnp.ones(3, "bfloat16")}
    for inner in (jopt.sgd(1e-3), jopt.adamw(1e-3, weight_decay=0.0)):
        still, _ = run(inner, params, range(100), grads=lambda i: ones)
        assert (still["w"] == 1).all()
        moved, _ = run(jopt.master_weights(inner), params, range(100), grads=lambda i: ones)
        np.testing.assert_array_equal(moved["w"].astype(jnp.float32), 0.8984375)  # nearest to 0.9


def test_only_narrow_leaves_that_move_have_a_master():
    params = {**PARAMS, "wave": jnp.ones(2, "complex64"), "n": jnp.arange(3)}
    groups = {"still": jopt.group("bias$|^n$", freeze=True)}
    tx = jopt.master_weights(jopt.adamw(0.01, groups=groups))
    state = tx.init(params)
    same(state["master_weights"]["master"], {"half": widened(PARAMS["half"])})
    grads = {**grads_at(0), "wave": jnp.ones(2, "complex64"), "n": None}
    updates, _ = jax.jit(tx.update)(grads, state, params)
    after = jopt.apply_updates(params, updates)
    same({k: after[k] for k in ("low", "n")}, {k: params[k] for k in ("low", "n")})
    alone, _ = by_update(
        jopt.adamw(0.01), {"wide": PARAMS["wide"]}, [0], grads=lambda i: {"wide": grads["wide"]}
    )
    same(after["wide"], alone["wide"])
    assert not np.array_equal(after["wave"], params["wave"])
    routed = jopt.route(jopt.adamw(0.01), low=("^low", jopt.sgd(0.1, groups=groups)))
    node = jopt.master_weights(routed).init(PARAMS)["master_weights"]
    assert set(node["master"]) == {"half"}


@each_run
def test_without_a_gradient_a_leaf_and_its_master_rest(run):
    tx = jopt.master_weights(jopt.adamw(0.01, skips=True))
    some = lambda i: {**grads_at(i), "half": None}  # noqa: E731
    params, state = run(tx, PARAMS, range(2), grads=some)
    same(params["half"], PARAMS["half"])
    same(state["master_weights"]["master"]["half"], widened(PARAMS["half"]))
    alone, _ = run(
        tx,
        {k: PARAMS[k] for k in ("low", "wide")},
        range(2),
        grads=lambda i: {k: grads_at(i)[k] for k in ("low", "wide")},
    )
    same({k: params[k] for k in alone}, alone)


@each_run
def test_what_was_changed_from_outside_starts_anew_from_there(run):
    tx = jopt.master_weights(jopt.sgd(1e-3))
    params, state = run(tx, PARAMS, range(3))
    edited = {**params, "half": params["half"].at[0].set(0)}
    after, new = run(tx, edited, [3], state)
    masters = state["master_weights"]["master"]["half"].at[0].set(0)
    want = masters - 1e-3 * grads_at(3)["half"]
    np.testing.assert_allclose(new["master_weights"]["master"]["half"], want, atol=2e-7)
    same(after["half"], new["master_weights"]["master"]["half"].astype("bfloat16"))


def test_frozen_leaves_get_masters_when_they_thaw():
    frozen = jopt.adamw(0.01, groups={"still": jopt.group("bias$", freeze=True)})
    params, state = by_step(jopt.master_weights(frozen), PARAMS, range(3))
    tx = jopt.master_weights(jopt.adamw(0.01))
    with error(
        jopt.StateError,
        """
        master_weights: the state has no master for a parameter
          at:       low/bias
          For added or unfrozen leaves: state = jopt.extend(tx, state, params).
        """,
    ):
        tx.update(grads_at(3), state, params)
    wider = jopt.extend(tx, state, params)
    same(wider["master_weights"]["master"]["half"], state["master_weights"]["master"]["half"])
    same(wider["master_weights"]["master"]["low"], widened(params["low"]))
    after, _ = by_step(tx, params, [3], wider)
    assert not np.array_equal(after["low"]["bias"], params["low"]["bias"])


@each_run
def test_rows_of_a_table(run):
    table = jnp.ones((50, 4), "bfloat16")
    ids = jnp.asarray([3, 7, 3])
    grads = jopt.row_gradient(ids, jnp.full((3, 4), 0.5), table)
    inner = jopt.sparse_adam(1e-3)
    wide, _ = run(inner, table.astype(jnp.float32), range(20), grads=lambda i: grads)
    params, state = run(jopt.master_weights(inner), table, range(20), grads=lambda i: grads)
    same(state["master_weights"]["master"], wide)
    same(params, wide.astype("bfloat16"))
    assert (np.delete(np.asarray(params, np.float32), [3, 7], axis=0) == 1).all()
    assert (params[ids] < 1).all()


def test_a_run_goes_on_from_a_file(tmp_path):
    tx = jopt.master_weights(jopt.adamw(0.01))
    whole = by_step(tx, PARAMS, range(6))
    params, state = by_step(tx, PARAMS, range(3))
    jopt.save(tmp_path / "run.jopt", {"params": params, "state": state})
    like = {"params": PARAMS, "state": tx.init(PARAMS)}
    back = jopt.load(tmp_path / "run.jopt", like)
    same(by_step(tx, back["params"], range(3, 6), back["state"]), whole)


def test_abstract_parameters_give_the_same_state():
    tx = jopt.master_weights(jopt.adamw(0.01))
    shapes = jax.eval_shape(lambda: PARAMS)
    same(jax.tree.map(jnp.shape, tx.init(shapes)), jax.tree.map(jnp.shape, tx.init(PARAMS)))
    # From zeros, which no parameter is the rounding of: the first step takes what it finds.
    same(by_step(tx, PARAMS, range(3), tx.init(shapes)), by_step(tx, PARAMS, range(3)))


def test_float64_masters_where_jax_has_float64(x64):
    params = {"w": jnp.ones(4, "bfloat16")}
    tx = jopt.master_weights(jopt.sgd(1e-9), dtype=jnp.float64)
    after, state = by_update(tx, params, range(10), grads=lambda i: params)
    master = state["master_weights"]["master"]["w"]
    assert master.dtype == jnp.float64
    np.testing.assert_allclose(master, 1 - 1e-8, rtol=1e-12)
    assert after["w"].dtype == jnp.bfloat16


def test_other_dtypes_and_shapes_and_missing_parameters_are_refused():
    with error(
        jopt.ConfigError,
        """
        master_weights: masters cannot have this dtype
          expected: 'float32'
          found:    'float16'
        """,
    ):
        jopt.master_weights(jopt.sgd(0.1), dtype=jnp.float16)
    tx = jopt.master_weights(jopt.sgd(0.1))
    state = tx.init(PARAMS)
    with error(
        jopt.TreeError,
        """
        master_weights: update needs the parameters
          Call tx.update(grads, state, params).
        """,
    ):
        tx.update(grads_at(0), state)
    state["master_weights"]["master"]["half"] = jnp.ones(24)
    with error(
        jopt.StateError,
        """
        master_weights: a master has another shape than its parameter
          at:       half
          expected: (4, 6)
          found:    (24,)
        """,
    ):
        tx.update(grads_at(0), state, PARAMS)


def test_it_prints_as_its_call():
    tx = jopt.master_weights(jopt.sgd(0.1))
    assert repr(tx) == "jopt.master_weights(tx=jopt.sgd(learning_rate=0.1))"
