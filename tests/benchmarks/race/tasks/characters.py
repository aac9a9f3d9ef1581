"""The next character of Python's own library, by a small transformer."""

from __future__ import annotations

import hashlib
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tests.benchmarks.quality.text import VOCABULARY, library
from tests.benchmarks.race.task import Task, cross_entropy, dense, head, through


def normalized(scales: Any, x: Array) -> Array:
    """RMSNorm."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scales


def attended(layer: Any, x: Array, heads: int) -> Array:
    """Causal attention."""
    batch, length, width = x.shape
    split = through(layer["qkv"], x).reshape(batch, length, 3, heads, width // heads)
    query, key, value = split[:, :, 0], split[:, :, 1], split[:, :, 2]
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / (width // heads) ** 0.5
    seen = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -1e9), axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return through(layer["out"], mixed.reshape(batch, length, width))


def characters(
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    context: int = 64,
    size: int = 8,
    windows: int = 128,
    steps: int = 600,
) -> Task:
    """A transformer of four pre-norm blocks, 833,280 numbers.

    Of the text the last tenth is held out, the tenth before it judges the tuning: other files than
    those learnt from, but for those that are cut.
    """
    raw, count = library()
    tokens = jnp.asarray(np.frombuffer(raw, np.uint8).astype(np.int32))
    ends = len(raw) * 8 // 10, len(raw) * 9 // 10

    def init(key: Array) -> Any:
        keys = jax.random.split(key, layers + 3)
        params: dict[str, Any] = {
            "embed": 0.02 * jax.random.normal(keys[0], (VOCABULARY, width)),
            "positions": 0.02 * jax.random.normal(keys[1], (context, width)),
            "scale": jnp.ones(width),
            "out": head(keys[2], width, VOCABULARY),
        }
        for i in range(layers):
            one, two, three, four = jax.random.split(keys[i + 3], 4)
            params[f"block{i}"] = {
                "qkv": dense(one, width, 3 * width),
                "out": dense(two, width, width, 1 / (2 * layers) ** 0.5),
                "up": dense(three, width, 4 * width),
                "down": dense(four, 4 * width, width, 1 / (2 * layers) ** 0.5),
                "scale1": jnp.ones(width),
                "scale2": jnp.ones(width),
            }
        return params

    def logits(params: Any, inputs: Array) -> Array:
        x = params["embed"][inputs] + params["positions"][None, : inputs.shape[1]]
        for i in range(layers):
            block = params[f"block{i}"]
            x = x + attended(block, normalized(block["scale1"], x), heads)
            hidden = through(block["up"], normalized(block["scale2"], x))
            x = x + through(block["down"], jax.nn.gelu(hidden))
        return through(params["out"], normalized(params["scale"], x))

    def cut(starts: Array) -> tuple[Array, Array]:
        found = tokens[starts[..., None] + jnp.arange(context + 1)]
        return found[..., :-1], found[..., 1:]

    def spread(begin: int, end: int) -> tuple[Array, Array]:
        starts = np.linspace(begin, end - context - 1, windows).astype(np.int32)
        return cut(jnp.asarray(starts.reshape(-1, min(32, windows))))

    def batch(key: Array) -> tuple[Array, Array]:
        return cut(jax.random.randint(key, (size,), 0, ends[0] - context))

    return Task(
        name="characters",
        unit="nats a character",
        data={
            "source": f"{count} files of the library of Python {platform.python_version()}",
            "characters": len(raw),
            "judged_by": windows * context,
            "sha256": hashlib.sha256(raw).hexdigest(),
        },
        init=init,
        loss=lambda params, batch: cross_entropy(logits(params, batch[0]), batch[1]),
        batch=batch,
        validation=spread(*ends),
        held_out=spread(ends[1], len(raw)),
        steps=steps,
        trials=8,
        tuning_seeds=(1000,),
        seeds=(0, 1, 2, 3, 4),
        at_once=1,
        marks=20,
        rank=width // 4,
    )
