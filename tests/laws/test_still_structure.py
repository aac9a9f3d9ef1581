"""No update changes the structure of a state: dense gradients, none, and leaves without entries."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tests.laws.harness import each, extras, given, params_of


def aspect(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@each
def test_no_gradient_changes_the_structure_of_a_state(entry):
    tx = entry.skipping(True)
    leaf = jax.tree.leaves(params_of(entry))[-1]
    empty = jnp.zeros((0, *leaf.shape[1:]), leaf.dtype) if leaf.ndim else leaf
    params = {"a": leaf, "b": leaf, "empty": empty}
    grads = params
    state = tx.init(params)
    for missing in ((), ("b",), ("a", "b", "empty")):
        fed = {k: None if k in missing else given(entry, g) for k, g in grads.items()}
        more = extras(tx, params, grads)
        after = jax.eval_shape(lambda s, f=fed, m=more: tx.update(f, s, params, **m)[1], state)
        assert aspect(after) == aspect(state)
