"""Layer-wise learning-rate decay beside no-decay, against the same made of optax's masks."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

DEPTH, DECAY, RATE = 3, 0.9, 1e-2
NO_DECAY = {"no_decay": jopt.group(r"(bias|scale)$", weight_decay=0.0)}
LAYERS = jopt.recipes.layer_decay(r"layer_(\d+)/", decay=DECAY, depth=DEPTH, below="^embeddings/")


def bert(depth=DEPTH):
    """The paths of BERT's leaves as flax has them, small."""
    rng = np.random.default_rng(0)

    def w(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def layer():
        return {"dense": {"kernel": w(3, 2), "bias": w(2)}, "norm": {"scale": w(2), "bias": w(2)}}

    return {
        "embeddings": {"word": {"embedding": w(5, 2)}, "norm": {"scale": w(2), "bias": w(2)}},
        "encoder": {f"layer_{i}": layer() for i in range(depth)},
        "head": {"kernel": w(2, 2), "bias": w(2)},
    }


def power(name):
    """The exponent of a leaf's rate."""
    found = re.search(r"layer_(\d+)/", name)
    if found:
        return DEPTH - int(found[1])
    return DEPTH + 1 if name.startswith("embeddings/") else 0


def labels(tree, of):
    return jax.tree_util.tree_map_with_path(lambda path, _: of("/".join(k.key for k in path)), tree)


def test_no_decay_times_layer_rates_is_optax_multi_transform():
    params, rate = bert(), jopt.schedules.linear(RATE, 0.0, 20)
    tx = jopt.adamw(rate, weight_decay=0.1, groups=NO_DECAY | LAYERS)

    def of(name):
        return f"{power(name)} {0.0 if re.search(r'(bias|scale)$', name) else 0.1}"

    parts = {
        f"{n} {decay}": optax.adamw(lambda t, n=n: DECAY**n * rate(t), weight_decay=decay)
        for n in range(DEPTH + 2)
        for decay in (0.0, 0.1)
    }
    theirs = optax.multi_transform(parts, labels(params, of))

    def run(tx):
        @jax.jit
        def steps(params):
            def step(carry, t):
                p, state = carry
                grads = jax.tree.map(lambda x: jnp.sin(3 * x + t.astype(x.dtype)), p)
                updates, state = tx.update(grads, state, p)
                return (optax.apply_updates(p, updates), state), None

            return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(8))[0][0]

        return steps(params)

    with jax.numpy_dtype_promotion("standard"):
        reached = run(theirs)
    for ours, want in zip(jax.tree.leaves(run(tx)), jax.tree.leaves(reached), strict=True):
        np.testing.assert_allclose(ours, want, rtol=1e-6, atol=1e-6)


def test_its_state_has_a_number_a_group_and_no_more():
    params = bert()
    plain = jax.tree.leaves(jopt.adamw(1e-3).init(params))
    state = jopt.adamw(1e-3, groups=NO_DECAY | LAYERS).init(params)
    assert len(jax.tree.leaves(state)) == len(plain) + 1 + DEPTH + 1
    assert set(state["adamw"]["times"]) == {"below", *(f"layer_{i}" for i in range(DEPTH))}


def test_layers_that_are_not_there():
    with pytest.raises(jopt.GroupError, match="layer_decay has no such layer"):
        jopt.sgd(0.1, groups=LAYERS).init(bert(DEPTH + 1))
    with pytest.raises(jopt.GroupError, match="group 'layer_2' matches no leaf"):
        jopt.sgd(0.1, groups=LAYERS).init(bert(DEPTH - 1))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"pattern": "layer"}, "the pattern has one group"),
        ({"pattern": r"(a)(\d)"}, "the pattern has one group"),
        ({"pattern": "("}, "is no regular expression"),
        ({"decay": 1.5}, "decay is out of range"),
        ({"depth": 0}, "depth is a number of layers"),
        ({"depth": 10**12}, "each layer is a group"),
    ],
)
def test_wrong_arguments(given, text):
    with pytest.raises(jopt.ConfigError, match=text):
        jopt.recipes.layer_decay(**{"pattern": r"layer_(\d+)", "decay": 0.9, "depth": 2, **given})
