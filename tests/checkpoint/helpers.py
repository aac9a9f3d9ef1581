"""What the tests of this room share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt


def assert_same(found, expected, path=""):
    """Equal containers, keys, types, dtypes, shapes and bits."""
    if isinstance(expected, dict):
        assert type(found) is dict, f"{path}: {type(found)}"
        assert sorted(found) == sorted(expected), path
        for key in expected:
            assert_same(found[key], expected[key], f"{path}/{key}")
    elif hasattr(expected, "dtype"):
        assert hasattr(found, "dtype"), f"{path}: {found!r}"
        assert found.dtype == expected.dtype, f"{path}: {found.dtype}"
        assert found.shape == expected.shape, f"{path}: {found.shape}"
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes(), path
    else:
        assert type(found) is type(expected), f"{path}: {found!r}"
        assert repr(found) == repr(expected), path


def fails(match, call, *args, **kwargs):
    """The text of the `CheckpointError` that this call raises; it contains `match`."""
    with pytest.raises(jopt.CheckpointError) as caught:
        call(*args, **kwargs)
    assert match in str(caught.value), str(caught.value)
    return str(caught.value)


def params():
    return {
        "dense": {
            "w": jnp.linspace(-1, 1, 12, dtype=jnp.float32).reshape(3, 4),
            "b": jnp.ones(4, jnp.bfloat16),
        },
        "scale": jnp.float32(0.5),
    }


def grads(seed=0):
    leaves, treedef = jax.tree.flatten(params())
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return treedef.unflatten(
        [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )


def transform(learning_rate=1e-2, skips=None):
    groups = {"no_decay": jopt.group("b$", weight_decay=0.0)}
    tx = jopt.adamw(learning_rate, groups=groups, skips=skips)
    return jopt.chain(jopt.clip_by_global_norm(1.0), tx)


def trained(tx=None, steps=3):
    """A state with history, and the parameters it belongs to."""
    tx = tx or transform()
    p = params()
    state = tx.init(p)
    for i in range(steps):
        updates, state = tx.update(grads(i), state, p)
        p = jopt.apply_updates(p, updates)
    return state, p
