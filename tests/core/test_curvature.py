"""An estimate of the Hessian's diagonal, and the step of it, where slots are stored in few bits."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

KEPT = {"long": (4096,), "ragged": (8, 700), "small": (8, 2)}
MAKES = {
    "sophia": lambda **more: jopt.sophia(0.1, estimator="given", update_interval=2, **more),
    "adahessian": lambda **more: jopt.adahessian(0.1, estimator="given", update_interval=2, **more),
    "averages": lambda **more: jopt.adahessian(
        0.1, estimator="given", average=True, axes={"long": "(a 8) -> a 8"}, **more
    ),
}


def tree(seed, scale=0.0):
    """Numbers of several orders of magnitude: a block's scale does not give them all."""
    rng = np.random.default_rng(seed)
    spread = {k: np.exp(scale * rng.normal(size=s)) for k, s in KEPT.items()}
    return {k: jnp.asarray(spread[k] * rng.normal(size=s), "float32") for k, s in KEPT.items()}


ORDINARY = (("sophia", "int8", "step"), ("adahessian", {"nu": "bfloat16"}, "update"))
REST = itertools.product(MAKES, ("int8", "bfloat16", {"nu": "int8"}), ("step", "update"))


@pytest.mark.parametrize(
    ("name", "kind", "way"),
    [*ORDINARY, *(pytest.param(*each, marks=pytest.mark.slow) for each in REST)],
)
def test_parameters_move_by_the_diagonal_as_it_was_computed(name, kind, way):
    make = MAKES[name]
    tx, whole, params = make(state_dtype=kind), make(), tree(0)
    state = tx.init(params)

    @jax.jit
    def both(params, state, grads, hessian):
        wide = jopt.convert_state(whole, state, params)
        if way == "step":
            found = jopt.step(tx, grads, state, params, hessian=hessian)
            return found, jopt.step(whole, grads, wide, params, hessian=hessian)
        found, want = (
            t.update(grads, s, params, hessian=hessian) for t, s in ((tx, state), (whole, wide))
        )
        added = jopt.apply_updates(params, found[0])
        return (added, found[1]), (jopt.apply_updates(params, want[0]), want[1])

    for seed in range(4):  # of which every other one has an estimate, and one leaf never has
        hessian = {**tree(seed + 10, scale=2.0), "ragged": None}
        found, want = both(params, state, tree(seed + 20), hessian)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6), found[0], want[0]
        )
        again = jopt.convert_state(tx, want[1], params)
        assert jax.tree.structure(again) == jax.tree.structure(found[1])
        params, state = found
