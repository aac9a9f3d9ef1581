"""The parameters that benchmarks run on: a plain transformer's, twelve leaves a layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


def transformer(layers: int, width: int, vocabulary: int) -> Tree:
    """The shapes of an embedding and of `layers` layers: six matrices and six vectors each."""
    w = width

    def leaf(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    layer = {
        "query": leaf(w, w),
        "key": leaf(w, w),
        "value": leaf(w, w),
        "output": leaf(w, w),
        "up": leaf(w, 4 * w),
        "down": leaf(4 * w, w),
        "up_bias": leaf(4 * w),
        "down_bias": leaf(w),
        "query_bias": leaf(w),
        "output_bias": leaf(w),
        "scale1": leaf(w),
        "scale2": leaf(w),
    }
    return {"embedding": leaf(vocabulary, w)} | {f"layer{i}": dict(layer) for i in range(layers)}


def stacked(layers: int, width: int, vocabulary: int) -> Tree:
    """The same, its layers stacked leaf by leaf, as `jax.lax.scan` over them takes them."""
    one = transformer(1, width, vocabulary)
    every = {
        name: jax.ShapeDtypeStruct((layers, *x.shape), x.dtype) for name, x in one["layer0"].items()
    }
    return {"embedding": one["embedding"], "layers": every}


TREES = {
    "A": lambda: transformer(12, 768, 8192),  # 145 leaves, 91.3 million numbers
    "A stacked": lambda: stacked(12, 768, 8192),  # the same in 13 leaves
    "B": lambda: transformer(48, 512, 8192),  # 577 leaves, 155 million
    "CPU": lambda: transformer(12, 384, 8192),  # 145 leaves, 24.4 million
    "small": lambda: transformer(2, 256, 1024),  # 25 leaves, 1.8 million
    "tiny": lambda: transformer(2, 16, 32),  # 25 leaves: quick to compile and to run
}
"""The trees of the benchmarks, by name."""


def size(tree: Tree) -> int:
    """How many numbers a tree holds."""
    return sum(x.size for x in jax.tree.leaves(tree))


def nbytes(tree: Tree) -> int:
    """How many bytes they take."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def values(tree: Tree, seed: int = 0) -> Tree:
    """Normal numbers in these shapes."""
    draw = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda x: jnp.asarray(draw(x.shape), x.dtype), tree)
