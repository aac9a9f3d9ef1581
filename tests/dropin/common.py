"""Data, transforms and comparisons that the drop-in tests share."""

import jax
import jax.numpy as jnp
import numpy as np

import jopt

NO_DECAY = {"no_decay": jopt.group(r"(bias|scale)$", weight_decay=0.0)}

# Every kind of entry a state can have.
TRANSFORMS = {
    "adamw": lambda: jopt.adamw(1e-2, weight_decay=0.1),
    "groups": lambda: jopt.adamw(1e-2, weight_decay=0.1, groups=NO_DECAY),
    "schedule": lambda: jopt.adamw(jopt.schedules.cosine(1e-2, 100), amsgrad=True),
    "chain": lambda: jopt.chain(
        jopt.clip_by_global_norm(1.0), jopt.sgd(jopt.schedules.step(0.1, 2, 0.5), momentum=0.9)
    ),
}


def batch():
    x = np.cos(np.arange(24, dtype=np.float32)).reshape(6, 4)
    return jnp.asarray(x), jnp.asarray(np.sin(x[:, :2]))


def loss_of(predicted, y):
    return jnp.mean((predicted - y) ** 2)


def assert_identical(a, b):
    """The same structure, and the same bytes in every leaf."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        where = jax.tree_util.keystr(path)
        assert (x.dtype, x.shape) == (y.dtype, y.shape), where
        assert x.tobytes() == y.tobytes(), where
