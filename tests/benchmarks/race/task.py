"""What is trained, for how long, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


@dataclass(frozen=True)
class Task:
    """A model, its data, and the size of the race on it.

    Leaves called `kernel` are matrices inside the model, which Muon and its kin take; all other
    leaves, embeddings and output layers among them, are trained by AdamW there. A leaf has two
    axes at most, so that no optimizer needs to be told what of it is a matrix.
    """

    name: str
    unit: str
    data: Mapping[str, Any]
    """What the data are, so that another run can tell whether it has the same."""
    init: Callable[[Array], Any]
    """Parameters from a random key."""
    loss: Callable[[Any, Any], Array]
    """The mean loss of a batch."""
    batch: Callable[[Array], Any]
    """A batch to learn from, from a random key."""
    validation: Any
    """What the tuning is judged by: batches along a first axis."""
    held_out: Any
    """What the reported runs are judged by, and nothing else sees; batches along a first axis."""
    judge: Callable[[Any, Any], Array] | None = None
    """The loss of a batch of these; None for `loss`."""
    steps: int = 1000
    trials: int = 16
    """How many of the points each optimizer is tuned at."""
    tuning_seeds: tuple[int, ...] = (1000, 1001)
    seeds: tuple[int, ...] = tuple(range(8))
    """The seeds that are reported, none of which is tuned at."""
    at_once: int = 8
    """How many runs are trained side by side; large products gain nothing from it."""
    marks: int = 20
    """How many times, evenly along the way, a run is judged."""
    rank: int = 4
    """Of APOLLO's projections: a quarter of the width, as its authors have it."""
    floor: float | None = None
    """The least held-out loss there is, where it is known."""
    notes: str = field(default="", compare=False)

    def judged(self, params: Any, batches: Any) -> Array:
        """The mean loss over many batches of a size, one after the other."""
        judge = self.judge or self.loss
        return jnp.mean(jax.lax.map(lambda batch: judge(params, batch), batches))

    def shapes(self) -> Any:
        """The parameters' shapes."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(p.size for p in jax.tree.leaves(self.shapes()))

    def described(self) -> dict[str, Any]:
        """What a file of results must agree with to be gone on with."""
        return {
            "task": self.name,
            "unit": self.unit,
            "data": dict(self.data),
            "parameters": self.parameters(),
            "steps": self.steps,
            "trials": self.trials,
            "tuning_seeds": list(self.tuning_seeds),
            "seeds": list(self.seeds),
            "marks": self.marks,
            "rank": self.rank,
            "floor": self.floor,
        }


def dense(key: Array, rows: int, columns: int, gain: float = 1.0) -> dict[str, Array]:
    """A layer inside a model: its matrix, of variance gain² / rows, and a bias of zeros."""
    kernel = jax.random.normal(key, (rows, columns)) * (gain / rows**0.5)
    return {"kernel": kernel, "bias": jnp.zeros(columns)}


def head(key: Array, rows: int, columns: int) -> dict[str, Array]:
    """An output layer, which is not called `kernel`."""
    made = dense(key, rows, columns)
    return {"head": made["kernel"], "bias": made["bias"]}


def through(layer: Mapping[str, Array], x: Array) -> Array:
    """x times the layer's matrix, plus its bias."""
    return x @ layer["kernel" if "kernel" in layer else "head"] + layer["bias"]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean, in nats."""
    logs = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(logs, labels[..., None], axis=-1))
