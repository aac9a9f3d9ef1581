"""Train a table of ten million rows, a few hundred at a time, in well under a millisecond a step.

Each step looks some rows up, differentiates with respect to those rows only, and tells
`jopt.sparse_adam` which they were. Parameters and state are donated, so the rows are written in
place and nothing of the table's size is read, copied or made: the time of a step stays the same
from ten thousand rows to ten million.

    python examples/embedding.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import jopt

WIDTH = 16
BATCH = 256


def loss_fn(left, right, agree):
    """Rows of pairs that agree should point the same way."""
    return jnp.mean(jax.nn.softplus(jnp.where(agree, -1, 1) * jnp.sum(left * right, -1)))


def make_step(tx):
    def step(table, state, pairs, agree):
        def of_rows(rows):
            return loss_fn(rows[:, 0], rows[:, 1], agree)

        value, grads = jax.value_and_grad(of_rows)(table[pairs])
        updates, state = tx.update(jopt.row_gradient(pairs, grads, table), state, table)
        return jopt.apply_updates(table, updates), state, value

    return jax.jit(step, donate_argnums=(0, 1))


def run(rows, steps, seed=0):
    """First and last loss, and the median time of a step in milliseconds."""
    rng = np.random.default_rng(seed)
    scale = 0.1 / np.sqrt(WIDTH)
    table = jax.random.normal(jax.random.key(seed), (rows, WIDTH)) * scale
    tx = jopt.sparse_adam(0.05)
    state, step = tx.init(table), make_step(tx)
    hot = rng.choice(rows, size=2000, replace=False)  # what the data are about
    losses, times = [], []
    for _ in range(steps):
        pairs = hot[rng.integers(0, len(hot), (BATCH, 2))]
        agree = pairs[:, 0] % 2 == pairs[:, 1] % 2
        began = time.perf_counter()
        table, state, value = jax.block_until_ready(step(table, state, pairs, agree))
        times.append(time.perf_counter() - began)
        losses.append(float(value))
    return losses[0], losses[-1], 1e3 * statistics.median(times[steps // 10 :])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    print(f"{'rows':>12} {'table + state':>14} {'first loss':>11} {'last loss':>10} {'ms/step':>8}")
    for rows in args.rows:
        first, last, ms = run(rows, args.steps)
        size = f"{3 * 4 * rows * WIDTH / 1e6:.0f} MB"
        print(f"{rows:12,} {size:>14} {first:11.4f} {last:10.4f} {ms:8.3f}")


if __name__ == "__main__":
    main()
