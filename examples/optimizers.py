"""Every first-order optimizer on one small network, swept over its learning rate.

Each optimizer trains all learning rates at once, in one compiled program: `jax.vmap` over the
number in its state. The picture shows the loss after training against the learning rate: how
low each one gets, and how wide its good range is.

    python examples/optimizers.py --out out/optimizers
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jopt

RATES = 10.0 ** np.arange(-5, 1.01, 0.25)


def matrices_only(learning_rate):
    """Muon moves matrices; the biases go to AdamW, at a rate that suits it."""
    return jopt.route(jopt.adamw(1e-3), kernels=("kernel$", jopt.muon(learning_rate)))


OPTIMIZERS = {
    "sgd": jopt.sgd,
    "sgd, momentum": lambda lr: jopt.sgd(lr, momentum=0.9),
    "adam": jopt.adam,
    "adamw": jopt.adamw,
    "adamax": jopt.adamax,
    "nadam": jopt.nadam,
    "radam": jopt.radam,
    "adadelta": jopt.adadelta,
    "adagrad": jopt.adagrad,
    "rmsprop": jopt.rmsprop,
    "rprop": jopt.rprop,
    "asgd": jopt.asgd,
    "adafactor": jopt.adafactor,
    "muon": matrices_only,
}


# Rprop steps by signs alone, and noise turns those at random: it wants every gradient whole.
FULL_BATCH = {"rprop"}


def data():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return jnp.asarray(x / 16.0, jnp.float32), jnp.asarray(y)


def start(key, widths=(64, 48, 10)):
    keys = jax.random.split(key, len(widths) - 1)
    return {
        f"layer{i}": {
            "kernel": jax.random.normal(k, (m, n)) * np.sqrt(2.0 / m),
            "bias": jnp.zeros(n),
        }
        for i, (k, m, n) in enumerate(zip(keys, widths[:-1], widths[1:], strict=True))
    }


def loss_fn(params, x, y):
    *hidden, last = params.values()
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    logits = x @ last["kernel"] + last["bias"]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])


def sweep(make, x, y, steps, batch_size, seed):
    """The loss over the data after training, for every learning rate; `None`: no batches."""
    params = start(jax.random.key(seed))
    if batch_size is None:
        order = jnp.broadcast_to(jnp.arange(len(x)), (steps, len(x)))
    else:
        order = jax.random.randint(jax.random.key(seed + 1), (steps, batch_size), 0, len(x))

    def train(learning_rate):
        tx = make(learning_rate)

        def step(carry, rows):
            p, s = carry
            grads = jax.grad(loss_fn)(p, x[rows], y[rows])
            updates, s = tx.update(grads, s, p)
            return (jopt.apply_updates(p, updates), s), None

        (p, _), _ = jax.lax.scan(step, (params, tx.init(params)), order)
        return loss_fn(p, x, y)

    return np.asarray(jax.jit(jax.vmap(train))(jnp.asarray(RATES, jnp.float32)))


def draw(losses, first, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
    columns, floor = 4, 1e-3  # Rprop, which sees all data at every step, would fall out below
    rows = -(-len(losses) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(11, 2.3 * rows), sharex=True, sharey=True, squeeze=False
    )
    for axis, (name, values) in zip(axes.flat, losses.items(), strict=False):
        for other in losses.values():
            axis.plot(RATES, np.maximum(other, floor), color="0.5", alpha=0.3, lw=0.8, zorder=1)
        shown = np.where(np.isfinite(values), values, np.nan)
        axis.plot(RATES, np.maximum(shown, floor), color="C0", lw=2, zorder=2)
        best = int(np.nanargmin(shown))
        axis.plot(RATES[best], max(shown[best], floor), "o", color="C1", ms=5, zorder=3)
        axis.axhline(first, color="0.5", lw=0.8, ls=":")
        axis.set_title(f"{name}   best {shown[best]:.2g} at {RATES[best]:.1g}", fontsize=9)
        axis.set(xscale="log", yscale="log", ylim=(0.8 * floor, 20))
        axis.grid()
    for axis in axes.flat[len(losses) :]:
        axis.set_visible(False)
    figure.supxlabel("learning rate")
    figure.supylabel("loss after training (dotted: before)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=OPTIMIZERS, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("out/optimizers"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    x, y = data()
    first = float(loss_fn(start(jax.random.key(args.seed)), x, y))
    losses = {}
    for name in args.only or OPTIMIZERS:
        began = time.perf_counter()
        batch_size = None if name in FULL_BATCH else args.batch_size
        losses[name] = sweep(OPTIMIZERS[name], x, y, args.steps, batch_size, args.seed)
        best = int(np.nanargmin(losses[name]))
        print(
            f"{name:14s} best loss {losses[name][best]:.4f} at {RATES[best]:.2g}"
            f"   ({len(RATES)} rates in {time.perf_counter() - began:.1f} s)"
        )
    draw(losses, first, args.out / "optimizers.png")
    print(f"picture: {args.out / 'optimizers.png'}")


if __name__ == "__main__":
    main()
