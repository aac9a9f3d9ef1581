"""The state is nested dicts of arrays whose structure, shapes and dtypes never change."""

from __future__ import annotations

import jax
from flax import serialization

import jopt
from jopt.core.spec import REGISTRY
from jopt.testing import structure
from tests.laws.harness import (
    assert_same_bits,
    each,
    grads_like,
    numbers,
    other_number,
    params_of,
    run,
    step,
    subject,
)


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
    structure.structure(subject(entry))


@each
def test_scan_equals_a_loop(entry):
    structure.scan(subject(entry))


@each
def test_init_of_shapes_is_init_in_shape(entry):
    structure.shapes(subject(entry))


@each
def test_init_under_jit_is_init(entry):
    structure.init_jit(subject(entry))


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
def test_update_mutates_nothing_and_remembers_nothing(entry):
    structure.pure(subject(entry))


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
