"""Directions, and what the door makes of them: sign, decay, learning rate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.core.spec import REGISTRY
from tests.catalog import CATALOG
from tests.laws.harness import extras, grads_like, params_of

POINTING = [
    e for e in CATALOG if REGISTRY[e.name].gives == "direction" and REGISTRY[e.name].sparse == "no"
]
OWN = [e for e in CATALOG if REGISTRY[e.name].gives != "direction"]
DECAYING = [e for e in POINTING if "weight_decay" in REGISTRY[e.name].by_name]


def error(kind, make, *args, **kwargs):
    with pytest.raises(kind) as caught:
        make(*args, **kwargs)
    return str(caught.value)


def by_name(entry):
    return entry.name


def ran(tx, params, grads, steps=2):
    """The updates of each step, at parameters that stay."""

    @jax.jit
    def one(state):
        return tx.update(grads, state, params, **extras(tx, params, grads))

    state, found = tx.init(params), []
    for _ in range(steps):
        updates, state = one(state)
        found.append(updates)
    return found


@pytest.mark.parametrize("entry", POINTING, ids=by_name)
def test_the_step_is_the_learning_rate_times_the_direction(entry):
    decay = {"weight_decay": 0.0} if entry in DECAYING else {}
    tx, params = entry.make(learning_rate=0.5, **decay), params_of(entry)
    grads = grads_like(entry, params, 0)
    d, alone = ran(tx, params, grads), jopt.direction(tx)
    for step, along in zip(d, ran(alone, params, grads), strict=True):
        for x, y in zip(jax.tree.leaves(step), jax.tree.leaves(along), strict=True):
            np.testing.assert_allclose(x, -0.5 * y, rtol=1e-6, atol=1e-6)
    [(label, numbers)] = (jopt.hyperparams(alone.init(params)) or {entry.name: {}}).items()
    assert label == entry.name
    assert not {"learning_rate", "weight_decay"} & set(numbers.get("default", {}))
    assert eval(repr(alone), {"jopt": jopt}) == alone


@pytest.mark.parametrize("entry", OWN, ids=by_name)
def test_a_step_of_its_own_has_no_direction(entry):
    said = error(jopt.ConfigError, jopt.direction, entry.make())
    assert f"the step of {entry.name} is its own" in said


def test_only_an_optimizer_has_one():
    tx = jopt.clip_by_global_norm(1.0)
    assert "there is no optimizer here" in error(jopt.ConfigError, jopt.direction, tx)


def test_inside_wrappers_and_routes():
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones(2)}
    tx = jopt.accumulate(
        jopt.chain(
            jopt.clip_by_global_norm(1.0), jopt.route(jopt.adam(9.0), a=("a", jopt.sgd(9.0)))
        ),
        every=2,
    )
    grads = jax.tree.map(lambda p: 3 * p, params)
    first, second = ran(jopt.direction(tx), params, grads)
    assert not any(jnp.any(x) for x in jax.tree.leaves(first))
    np.testing.assert_allclose(second["b"], 1.0, rtol=1e-6)  # Adam's first step
    np.testing.assert_allclose(second["a"], 1 / np.sqrt(6), rtol=1e-5)  # the clipped gradient


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("entry", DECAYING, ids=by_name)
def test_decay_enters_where_it_is_said_to(entry):
    eta, lam = 0.25, 0.125

    def tx(weight_decay=lam, **more):
        return entry.make(learning_rate=eta, weight_decay=weight_decay, **more)

    params = params_of(entry, "float64")
    grads = grads_like(entry, params, 0)
    coupled = jax.tree.map(lambda g, p: g + lam * p, grads, params)
    bare = (entry.settings.get("decoupled") is not None and {"decoupled": False}) or {}
    plain, of_coupled = (ran(tx(0.0, **bare), params, g)[-1] for g in (grads, coupled))
    want = {
        False: of_coupled,
        True: jax.tree.map(lambda u, p: u - eta * lam * p, plain, params),
        "independent": jax.tree.map(lambda u, p: u - lam * p, plain, params),
    }
    for decoupled, expected in want.items():
        found = ran(tx(decoupled=decoupled), params, grads)[-1]
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13)
    # The parameter stays where it was, and a gradient turned round ascends.
    turned = jax.tree.map(jnp.negative, grads)
    found = ran(tx(maximize=True), params, turned)[-1]
    same = ran(tx(), params, grads)[-1]
    assert jax.tree.all(jax.tree.map(lambda x, y: bool(jnp.all(x == y)), found, same))


def test_what_has_no_choice_says_so():
    said = error(jopt.JoptError, jopt.asgd, decoupled=True)
    assert "there is no argument 'decoupled'" in said
    said = error(jopt.ConfigError, jopt.adam, decoupled="sometimes")
    assert "decoupled=True, False or 'independent'" in said
    assert "maximize is yes or no" in error(jopt.JoptError, jopt.adam, maximize=1)


def test_what_is_recorded_is_what_the_door_does():
    [part] = jopt.direction(jopt.adam(maximize=True)).parts.values()
    assert dict(part.frozen_options)["maximize"] is True
    [part] = jopt.adamw(decoupled="independent").parts.values()
    assert dict(part.frozen_options)["decoupled"] == "independent"
