"""The next character of a text: Python's own library, and a small transformer.

The text is the library of the `python` that runs: the `*.py` files of its top folder, one after
the other in the order of their names, without those that a build of Python writes for itself
(`_sysconfigdata*`). Of these the first 2,000,000 characters, each that is not ASCII replaced by
`?`. The last tenth is held out: other files than those learnt from, but for one that is cut.
Other versions of Python have another text; its hash tells.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array

from tests.benchmarks.quality.tasks import Batch, Task

CHARACTERS = 2_000_000
VOCABULARY = 128
RATES = {"adamw": 3e-3}


class Transformer(linen.Module):
    """Pre-norm blocks of causal attention and a perceptron, with learnt positions."""

    width: int
    layers: int
    heads: int = 4

    @linen.compact
    def __call__(self, tokens: Array) -> Array:
        """The logits of the character after each."""
        positions = self.param("positions", linen.initializers.normal(0.02), self.shape(tokens))
        x = linen.Embed(VOCABULARY, self.width, name="embed")(tokens) + positions[None]
        mask = linen.make_causal_mask(tokens)
        for _ in range(self.layers):
            x = x + linen.SelfAttention(self.heads)(linen.LayerNorm()(x), mask=mask)
            hidden = linen.gelu(linen.Dense(4 * self.width)(linen.LayerNorm()(x)))
            x = x + linen.Dense(self.width)(hidden)
        logits: Array = linen.Dense(VOCABULARY, name="head")(linen.LayerNorm()(x))
        return logits

    def shape(self, tokens: Array) -> tuple[int, int]:
        """Of the learnt positions."""
        return tokens.shape[-1], self.width


def library(characters: int = CHARACTERS) -> tuple[bytes, int]:
    """The text, and how many files it is from."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = (p for p in sorted(folder.glob("*.py")) if not p.name.startswith("_sysconfigdata"))
    text, count = "", 0
    for path in files:
        if len(text) >= characters:
            break
        text, count = text + path.read_text(encoding="utf-8"), count + 1
    return text[:characters].encode("ascii", "replace"), count


def text(
    steps: int = 900,
    width: int = 64,
    layers: int = 2,
    context: int = 64,
    size: int = 16,
    windows: int = 1000,
) -> Task:
    """The task; it is judged by windows spread evenly over the held-out text, and the learnt."""
    raw, count = library()
    tokens = np.frombuffer(raw, np.uint8).astype(np.int32)
    split = len(tokens) * 9 // 10
    learnt, held_out = jnp.asarray(tokens[:split]), jnp.asarray(tokens[split:])
    net = Transformer(width, layers)

    def cut(source: Array, starts: Array) -> Batch:
        along = jax.lax.broadcasted_iota(jnp.int32, (*starts.shape, context + 1), starts.ndim)
        found = source[starts[..., None] + along]
        return found[..., :-1], found[..., 1:]

    def spread(source: Array) -> Batch:
        starts = np.linspace(0, len(source) - context - 1, windows).astype(np.int32)
        return cut(source, jnp.asarray(starts.reshape(-1, min(50, windows))))

    def batch(key: Any) -> Batch:
        return cut(learnt, jax.random.randint(key, (size,), 0, split - context))

    return Task(
        name="text",
        unit="nats a character",
        data={
            "source": f"{count} files of the library of Python {platform.python_version()}",
            "characters": len(raw),
            "held_out": len(held_out),
            "judged_by": windows * context,
            "sha256": hashlib.sha256(raw).hexdigest(),
        },
        classes=VOCABULARY,
        init=lambda key: net.init(key, jnp.zeros((1, context), jnp.int32))["params"],
        logits=lambda params, inputs: net.apply({"params": params}, inputs),
        batch=batch,
        learnt=spread(learnt),
        held_out=spread(held_out),
        steps=steps,
        at_once=None,
        rates=RATES,
    )
