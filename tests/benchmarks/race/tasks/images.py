"""Two tasks on the 1797 images of digits that come with scikit-learn."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tests.benchmarks.race.task import Task, cross_entropy, dense, head, through

SHARES = (1077, 1437)  # of the images, where those to learn from end and those of the tuning do


def images() -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The images of 8×8 in [0, 1] and their labels, in an order drawn once; what they are."""
    import sklearn
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(3).permutation(len(labels))
    raw = np.ascontiguousarray(pixels, np.uint8).tobytes()
    data = {
        "source": f"sklearn.datasets.load_digits, scikit-learn {sklearn.__version__}",
        "learnt": SHARES[0],
        "validation": SHARES[1] - SHARES[0],
        "held_out": len(labels) - SHARES[1],
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    return (pixels[order] / 16).astype(np.float32), labels[order].astype(np.int32), data


def convolved(layer: Any, x: Array, stride: int) -> Array:
    """A convolution of 3×3 as one product: its kernel is a matrix of (9·channels, filters)."""
    patches = jax.lax.conv_general_dilated_patches(
        x, (3, 3), (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return through(layer, patches)


def digits(channels: int = 16, size: int = 64, wrong: float = 0.2, noise: float = 0.3) -> Task:
    """Three convolutions; a fifth of the labels are wrong, and the pixels noisy, anew each time.

    What it is judged by is clean. Wrong labels keep the least loss away from 0, where rounding
    would decide, and punish what learns by heart.
    """
    pixels, labels, data = images()
    rng, end = np.random.default_rng(4), SHARES[0]
    seen = np.where(rng.random(end) < wrong, rng.integers(0, 10, end), labels[:end])
    learnt = jnp.asarray(pixels[:end].reshape(-1, 8, 8, 1)), jnp.asarray(seen.astype(np.int32))

    def init(key: Array) -> Any:
        keys, gain = jax.random.split(key, 4), 2**0.5
        return {
            "conv1": dense(keys[0], 9, channels, gain),
            "conv2": dense(keys[1], 9 * channels, 2 * channels, gain),
            "conv3": dense(keys[2], 18 * channels, 2 * channels, gain),
            "out": head(keys[3], 2 * channels, 10),
        }

    def logits(params: Any, x: Array) -> Array:
        for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2)):
            x = jax.nn.relu(convolved(params[name], x, stride))
        return through(params["out"], x.mean(axis=(1, 2)))

    def batch(key: Array) -> tuple[Array, Array]:
        which, blur = jax.random.split(key)
        chosen = jax.random.randint(which, (size,), 0, end)
        x = learnt[0][chosen]
        return x + noise * jax.random.normal(blur, x.shape), learnt[1][chosen]

    def part(begin: int, end: int) -> tuple[Array, Array]:
        return jnp.asarray(pixels[None, begin:end].reshape(1, -1, 8, 8, 1)), jnp.asarray(
            labels[None, begin:end]
        )

    return Task(
        name="digits",
        unit="nats an image",
        data={**data, "wrong_labels": wrong, "noise": noise},
        init=init,
        loss=lambda params, batch: cross_entropy(logits(params, batch[0]), batch[1]),
        batch=batch,
        validation=part(end, SHARES[1]),
        held_out=part(SHARES[1], len(labels)),
        steps=600,
        trials=8,
        at_once=1,
        rank=channels // 2,
    )


def autoencoder(widths: tuple[int, ...] = (64, 128, 64, 32, 8), size: int = 64) -> Task:
    """A deep autoencoder of tanh layers down to eight numbers and up again, as Hinton's."""
    pixels, _, data = images()
    learnt = jnp.asarray(pixels[: SHARES[0]])
    sizes = (*widths, *reversed(widths[:-1]))
    last = len(sizes) - 2

    def init(key: Array) -> Any:
        keys = jax.random.split(key, last + 1)
        layers = {f"layer{i}": dense(keys[i], sizes[i], sizes[i + 1]) for i in range(last)}
        return {**layers, "out": head(keys[last], sizes[last], sizes[last + 1])}

    def loss(params: Any, x: Array) -> Array:
        hidden = x
        for i in range(last):
            hidden = through(params[f"layer{i}"], hidden)
            hidden = hidden if i == len(widths) - 2 else jnp.tanh(hidden)
        logits = through(params["out"], hidden)
        # Bernoulli's: pixels are shares of black.
        each = jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        return jnp.mean(each.sum(axis=-1))

    return Task(
        name="autoencoder",
        unit="nats an image",
        data={**data, "widths": list(sizes)},
        init=init,
        loss=loss,
        batch=lambda key: learnt[jax.random.randint(key, (size,), 0, len(learnt))],
        validation=jnp.asarray(pixels[None, SHARES[0] : SHARES[1]]),
        held_out=jnp.asarray(pixels[None, SHARES[1] :]),
        steps=1500,
        at_once=1,
        rank=16,
    )
