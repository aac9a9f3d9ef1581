"""Shared by the tests of the core: small trees, and errors checked by their text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt


def params(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "encoder": {"kernel": normal(rng, 3, 2), "bias": normal(rng, 2)},
        "head": {"kernel": normal(rng, 2, 2), "bias": normal(rng, 2)},
        "scale": normal(rng),
    }


def normal(rng: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def train(tx: Any, start: Any, state: Any, seeds: Any) -> tuple[Any, Any]:
    """Some updates with gradients shaped like `start`, drawn from seeds; `None` stays."""
    for seed in seeds:
        rng = np.random.default_rng(100 + seed)
        grads = jax.tree.map(lambda p, rng=rng: normal(rng, *p.shape), start)
        updates, state = tx.update(grads, state, start)
        start = jopt.apply_updates(start, updates)
    return start, state


def same(a: Any, b: Any) -> None:
    """Bit-equal trees."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


@contextlib.contextmanager
def error(kind: type[jopt.JoptError], text: str) -> Iterator[None]:
    """Exactly this message, line for line; lines may be indented in `text`."""
    with pytest.raises(kind) as caught:
        yield
    found = [line.strip() for line in str(caught.value).splitlines()]
    assert found == [line.strip() for line in text.strip().splitlines()]
