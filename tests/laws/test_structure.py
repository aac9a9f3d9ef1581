"""The state is nested dicts of arrays whose structure, shapes and dtypes never change."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

import jopt
from jopt.core.spec import REGISTRY
from tests.laws.harness import (
    assert_close,
    assert_same_bits,
    each,
    grads_like,
    numbers,
    other_number,
    params_of,
    run,
    stacked,
    step,
)


def aspect(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def is_plain(tree):
    if isinstance(tree, dict):
        return all(type(k) is str and is_plain(v) for k, v in tree.items())
    return isinstance(tree, jax.Array)


@each
def test_the_state_is_nested_dicts_of_arrays(entry):
    tx, params = entry.make(), params_of(entry)
    state = tx.init(params)
    assert is_plain(state)
    _, state = run(entry, tx, params, state, [0])
    assert is_plain(state)


@each
def test_structure_shapes_and_dtypes_never_change(entry):
    tx, params = entry.make(), params_of(entry)
    state = tx.init(params)
    shapes = aspect(state)
    for seed in range(3):
        params, state = run(entry, tx, params, state, [seed])
        assert aspect(state) == shapes
    chex.assert_trees_all_equal_structs(state, tx.init(params))


@each
def test_scan_equals_a_loop(entry):
    tx, params = entry.make(), params_of(entry)
    looped = run(entry, tx, params, tx.init(params), range(4))

    @jax.jit
    def scanned(params, state, grads):
        def body(carry, g):
            return step(entry, tx, *carry, g), None

        return jax.lax.scan(body, (params, state), grads)[0]

    got = scanned(params, tx.init(params), stacked(entry, params, range(4)))
    assert_close(got, looped, rtol=2e-6)


@each
def test_init_of_shapes_is_init_in_shape(entry):
    tx, params = entry.make(), params_of(entry)
    state = tx.init(params)
    shapes = jax.eval_shape(tx.init, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, state)
    assert jax.tree.map(lambda x: x.weak_type, shapes) == jax.tree.map(lambda x: x.weak_type, state)


@each
def test_init_under_jit_is_init(entry):
    tx, params = entry.make(), params_of(entry)
    assert_same_bits(jax.jit(tx.init)(params), tx.init(params))


@each
def test_nothing_retraces(entry):
    tx, params = entry.make(), params_of(entry)
    traces = []

    @jax.jit
    def compiled(params, state, grads):
        traces.append(1)
        return step(entry, tx, params, state, grads)

    state = tx.init(params)
    for seed in range(2):
        params, state = compiled(params, state, grads_like(entry, params, seed))
    for label, name in numbers(state):
        old = jopt.hyperparams(state)[label]["default"][name]
        state = jopt.set_hyperparams(state, label=label, **{name: other_number(label, name, old)})
        params, state = compiled(params, state, grads_like(entry, params, 3))
    loaded = serialization.msgpack_restore(serialization.to_bytes(state))
    compiled(params, loaded, grads_like(entry, params, 4))
    assert len(traces) == 1


@each
def test_update_mutates_neither_parameters_nor_state_nor_gradients(entry):
    # NumPy arrays, which could be written to.
    tx = entry.make()
    params = jax.tree.map(np.array, params_of(entry))
    grads = jax.tree.map(np.array, grads_like(entry, params, 0))
    state = jax.tree.map(np.array, tx.init(params))
    before = jax.tree.map(np.copy, (params, grads, state))
    step(entry, tx, params, state, jax.tree.map(jnp.asarray, grads))
    assert_same_bits((params, grads, state), before)


@each
def test_the_numbers_come_from_the_state(entry):
    # A transform built with other numbers and one whose state was edited to them take the same
    # steps, and their states differ in who gave the numbers alone.
    tx, params = entry.make(), params_of(entry)
    state = tx.init(params)
    seeds = {slot.init for slot in REGISTRY[entry.name].slots}  # these act once, in init
    view = jopt.hyperparams(state)[entry.name]["default"]
    values = {k: other_number(entry.name, k, v) for k, v in view.items() if k not in seeds}
    built = entry.make(**values)
    edited = jopt.set_hyperparams(state, label=entry.name, **values)
    want = run(entry, tx, params, edited, range(2))
    starts = (built, edited), (built, built.init(params))
    for tx, state in starts:
        new, state = run(entry, tx, params, state, range(2))
        assert_same_bits(state[entry.name].pop("given"), built.init(params)[entry.name]["given"])
        want[1][entry.name].pop("given", None)
        assert_same_bits((new, state), want)
