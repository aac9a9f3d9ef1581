"""A run that is stopped at any moment and goes on: the last and the best checkpoints are kept.

Every ten steps a thread writes a checkpoint while training goes on; of those there are, the last
two stay and the one with the least held-out error. Stop it when you like, or with `--stop-after`,
and start it again with the same command: it goes on from the newest checkpoint that is whole, and
ends with the very same parameters.

    python examples/preempted.py --stop-after 57
    python examples/preempted.py
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jopt

FEATURES = 20


def make_data(seed=0):
    """Noisy linear data: forty rows to fit, which are few, and forty held out."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, FEATURES)).astype(np.float32)
    y = x @ rng.normal(size=FEATURES).astype(np.float32) + 3 * rng.normal(size=80)
    return (x[:40], y[:40].astype(np.float32)), (x[40:], y[40:].astype(np.float32))


def loss_of(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def train(checkpoints, tx, until, stop_after=None):
    """The steps that are left; what was reached, and whether it was stopped."""
    fit, held_out = make_data()
    params = {"w": jnp.zeros(FEATURES), "b": jnp.float32(0)}
    found = checkpoints.resume({"params": params, "state": tx.init(params), "step": 0})
    run = found.tree
    print("begins" if found.path is None else f"goes on from {found.path.name}")

    @jax.jit
    def step(params, state):
        return jopt.step(tx, jax.grad(loss_of)(params, *fit), state, params)

    for i in range(run["step"] + 1, until + 1):
        params, state = step(run["params"], run["state"])
        run = {"params": params, "state": state, "step": i}
        metric = loss_of(params, *held_out) if i % checkpoints.every == 0 else None
        checkpoints.save(i, run, metric=metric)
        if i == stop_after:
            return run, True
    return run, False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--stop-after", type=int, help="stop after so many steps")
    parser.add_argument("--out", type=Path, default=Path("out/preempted"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    tx = jopt.adamw(jopt.schedules.warmup_cosine(0.2, 20, args.steps), weight_decay=0.0)
    settings = {"keep_last": 2, "keep_best": 1, "every": 10, "tx": tx}
    with jopt.Checkpoints(args.out, **settings) as checkpoints:
        run, stopped = train(checkpoints, tx, args.steps, args.stop_after)
    if stopped:
        print(f"stopped after step {run['step']}")
    for kept in checkpoints.entries:
        best = "  the best" if kept == checkpoints.best else ""
        print(f"{kept.path.name}   held-out error {kept.metric:.4f}{best}")
    print(f"parameters {hashlib.sha256(jopt.to_bytes(run['params'])).hexdigest()[:16]}")


if __name__ == "__main__":
    main()
