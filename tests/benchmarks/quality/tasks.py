"""What is trained: a network, its data, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Batch = tuple[Array, Array]


@dataclass(frozen=True)
class Task:
    """Inputs and labels to learn from, others to be judged by, and a network in between."""

    name: str
    unit: str
    data: Mapping[str, Any]
    """What the data are, so that another run can tell whether it has the same."""
    classes: int
    init: Callable[[Array], Any]
    """Parameters from a random key."""
    logits: Callable[[Any, Array], Array]
    batch: Callable[[Array], Batch]
    """A batch to learn from, from a random key."""
    learnt: Batch
    """Of what is learnt from, as much as is held out: (chunks, entries, ...)."""
    held_out: Batch
    steps: int
    at_once: int | None
    """How many seeds to train side by side; large products gain nothing from it."""
    rates: Mapping[str, float]
    """The optimizers it is trained with, and the highest learning rate of each."""

    def loss(self, params: Any, batch: Batch) -> Array:
        """The mean cross-entropy, in nats."""
        inputs, labels = batch
        logs = jax.nn.log_softmax(self.logits(params, inputs))
        return -jnp.mean(jnp.take_along_axis(logs, labels[..., None], axis=-1))

    def judged(self, params: Any, chunks: Batch) -> Array:
        """The loss over many batches of a size, one after the other."""
        return jnp.mean(jax.lax.map(lambda chunk: self.loss(params, chunk), chunks))
