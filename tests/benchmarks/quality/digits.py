"""Handwritten digits: the 1797 images that come with scikit-learn, and a network of two layers."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from tests.benchmarks.quality.tasks import Batch, Task

RATES = {"adamw": 3e-3, "sgd": 0.1, "rmsprop": 1e-3, "muon_adamw": 1e-2, "adafactor": 1e-2}


class Net(linen.Module):
    """Two hidden layers with LayerNorm; their kernels are nearly all of its numbers."""

    width: int

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """The ten logits of each image."""
        for _ in range(2):
            x = linen.relu(linen.LayerNorm()(linen.Dense(self.width)(x)))
        return linen.Dense(10, name="head")(x)


def digits(steps: int = 900, width: int = 128, size: int = 32) -> Task:
    """The task; a fifth of the images is held out, the same split every time."""
    import sklearn
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    raw = np.ascontiguousarray(images, np.uint8)
    x, x_out, y, y_out = train_test_split(
        images.astype(np.float32) / 16,
        labels.astype(np.int32),
        test_size=0.2,
        stratify=labels,
        random_state=0,
    )
    net = Net(width)

    def batch(key: Any) -> Batch:
        chosen = jax.random.randint(key, (size,), 0, len(x))
        return jnp.asarray(x)[chosen], jnp.asarray(y)[chosen]

    return Task(
        name="digits",
        unit="nats an image",
        data={
            "source": f"sklearn.datasets.load_digits, scikit-learn {sklearn.__version__}",
            "images": len(images),
            "held_out": len(x_out),
            "sha256": hashlib.sha256(raw.tobytes()).hexdigest(),
        },
        classes=10,
        init=lambda key: net.init(key, jnp.asarray(x[:1]))["params"],
        logits=lambda params, inputs: net.apply({"params": params}, inputs),
        batch=batch,
        learnt=(jnp.asarray(x)[None], jnp.asarray(y)[None]),
        held_out=(jnp.asarray(x_out)[None], jnp.asarray(y_out)[None]),
        steps=steps,
        at_once=10,
        rates=RATES,
    )
