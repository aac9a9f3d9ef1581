"""Three small tasks: a noisy quadratic, a matrix with holes, a table with outliers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tests.benchmarks.race.task import Task, dense, head, through


def quadratic(side: int = 16, condition: float = 1e4, noise: float = 0.01) -> Task:
    """½ (x − x*)ᵀ H (x − x*), with noisy gradients; x is a matrix, H of a condition number.

    The eigenvalues of H lie evenly by their logarithms between 1 / condition and 1, and its
    eigenvectors are random: H has no structure of rows and columns that a method could know of.
    Judged without noise, so that the least loss is 0.
    """
    rng, n = np.random.default_rng(0), side * side
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    hessian = (basis * np.geomspace(1 / condition, 1, n)) @ basis.T
    h, best = (jnp.asarray(x, jnp.float32) for x in (hessian, rng.normal(size=n)))

    def loss(params: Any, slope: Array) -> Array:
        away = params["kernel"].reshape(-1) - best
        return 0.5 * away @ (h @ away) + noise * (slope @ away)

    return Task(
        name="quadratic",
        unit="loss above the least",
        data={"side": side, "condition": condition, "noise": noise, "seed": 0},
        init=lambda key: {"kernel": jax.random.normal(key, (side, side))},
        loss=loss,
        batch=lambda key: jax.random.normal(key, (n,)),
        validation=jnp.zeros((1, n)),
        held_out=jnp.zeros((1, n)),
        steps=2000,
        rank=side // 4,
        floor=0.0,
    )


def factorisation(
    rows: int = 96, columns: int = 64, rank: int = 4, width: int = 8, size: int = 64
) -> Task:
    """A matrix of low rank, of which three tenths of the entries are known, with noise.

    The factors are of twice the rank. Judged by entries that are not known, without their noise.
    """
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns)) / rank**0.5
    noisy = truth + 0.1 * rng.normal(size=truth.shape)
    order = rng.permutation(rows * columns)
    known, valid, rest = np.split(order, [len(order) * 3 // 10, len(order) * 5 // 10])

    def entries(at: np.ndarray, of: np.ndarray) -> tuple[Array, Array, Array]:
        i, j = np.unravel_index(at, truth.shape)
        return jnp.asarray(i), jnp.asarray(j), jnp.asarray(of[i, j], jnp.float32)

    learnt = entries(known, noisy)

    def init(key: Array) -> Any:
        left, right = jax.random.split(key)
        return {
            "rows": {"kernel": 0.3 * jax.random.normal(left, (rows, width))},
            "columns": {"kernel": 0.3 * jax.random.normal(right, (columns, width))},
        }

    def loss(params: Any, batch: tuple[Array, Array, Array]) -> Array:
        i, j, values = batch
        found = jnp.sum(params["rows"]["kernel"][i] * params["columns"]["kernel"][j], axis=-1)
        return jnp.mean((found - values) ** 2)

    def batch(key: Array) -> Any:
        chosen = jax.random.randint(key, (size,), 0, len(known))
        return tuple(x[chosen] for x in learnt)

    return Task(
        name="factorisation",
        unit="squared error of an unknown entry",
        data={
            "shape": [rows, columns],
            "rank": rank,
            "width": width,
            "known": len(known),
            "noise": 0.1,
            "seed": 1,
        },
        init=init,
        loss=loss,
        batch=batch,
        validation=tuple(x[None] for x in entries(valid, truth)),
        held_out=tuple(x[None] for x in entries(rest, truth)),
        steps=2000,
        rank=2,
        floor=0.0,
    )


def tabular(width: int = 64, size: int = 64) -> Task:
    """Friedman's first function of ten columns, seen with heavy-tailed errors, and a perceptron.

    The errors are Student's t with 1.5 degrees of freedom, of no variance. Learnt and judged by
    Huber's loss; judged by the function itself.
    """
    import sklearn
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(n_samples=8192, n_features=10, noise=0.0, random_state=0)
    y = (y - y.mean()) / y.std()
    x = (x - 0.5) * 12**0.5
    errors = 0.3 * np.random.default_rng(2).standard_t(1.5, size=len(y))
    inputs, clean, seen = (jnp.asarray(a, jnp.float32) for a in (x, y, y + errors))
    train = len(y) // 2

    def init(key: Array) -> Any:
        one, two, last = jax.random.split(key, 3)
        return {
            "one": dense(one, 10, width, 2**0.5),
            "two": dense(two, width, width, 2**0.5),
            "out": head(last, width, 1),
        }

    def loss(params: Any, batch: tuple[Array, Array]) -> Array:
        inputs, values = batch
        hidden = jax.nn.relu(through(params["one"], inputs))
        hidden = jax.nn.relu(through(params["two"], hidden))
        off = jnp.abs(through(params["out"], hidden)[:, 0] - values)
        return jnp.mean(jnp.where(off < 1, 0.5 * off**2, off - 0.5))

    def batch(key: Array) -> tuple[Array, Array]:
        chosen = jax.random.randint(key, (size,), 0, train)
        return inputs[chosen], seen[chosen]

    def part(begin: int, end: int) -> tuple[Array, Array]:
        return inputs[None, begin:end], clean[None, begin:end]

    return Task(
        name="tabular",
        unit="Huber's loss a row",
        data={
            "source": f"sklearn.datasets.make_friedman1, scikit-learn {sklearn.__version__}",
            "rows": train,
            "errors": "0.3 of Student's t, 1.5 degrees of freedom",
        },
        init=init,
        loss=loss,
        batch=batch,
        validation=part(train, train + train // 2),
        held_out=part(train + train // 2, len(y)),
        steps=1500,
        rank=width // 4,
        floor=0.0,
    )
