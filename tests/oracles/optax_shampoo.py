"""optax-shampoo 0.0.6, with the names that jax has given up since and loops as jax has them now."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp


def package() -> Any:
    """Its module."""
    for name in ("map", "flatten", "unflatten", "leaves"):
        setattr(jax, f"tree_{name}", getattr(jax.tree, name))
    found: Any = importlib.import_module("optax_shampoo.distributed_shampoo")
    found.lax = SimpleNamespace(**{**vars(jax.lax), "while_loop": loop})
    return found


def loop(cond: Any, body: Any, start: Any) -> Any:
    """A loop that begins in the dtypes it goes on with."""
    types = jax.eval_shape(body, start)
    start = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), start, types)
    return jax.lax.while_loop(cond, body, start)
