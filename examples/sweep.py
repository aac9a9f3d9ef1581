"""Every learning rate with every weight decay, trained at once in one compiled program.

Hyperparameters are arrays in the state, so a state can hold one of each for every run, and
`jax.vmap` over that state trains them all. The data are handwritten digits, which come with
scikit-learn. The picture shows loss and accuracy on held-out digits, for every pair.

    python examples/sweep.py --rates 64

With `--compare` the same runs are done a second time, one after another, and a third time as
they must be where hyperparameters are constants of the program: each compiled anew.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jopt


def load_data():
    """Images in [0, 1] as rows of 64, and labels; a fifth of them held out."""
    images, labels = load_digits(return_X_y=True)
    x, x_out, y, y_out = train_test_split(
        images.astype(np.float32) / 16, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return (jnp.asarray(x), jnp.asarray(y)), (jnp.asarray(x_out), jnp.asarray(y_out))


def start(seed, hidden):
    """A network of one hidden layer."""
    one, two = jax.random.split(jax.random.key(seed))
    return {
        "hidden": {
            "kernel": jax.random.normal(one, (64, hidden)) * np.sqrt(2 / 64),
            "bias": jnp.zeros(hidden),
        },
        "head": {
            "kernel": jax.random.normal(two, (hidden, 10)) * np.sqrt(1 / hidden),
            "bias": jnp.zeros(10),
        },
    }


def measure(params, x, y):
    """Cross-entropy and accuracy."""
    x = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    scores = jax.nn.log_softmax(x @ params["head"]["kernel"] + params["head"]["bias"])
    loss = -jnp.mean(jnp.sum(jax.nn.one_hot(y, 10) * scores, axis=-1))
    return loss, jnp.mean(jnp.argmax(scores, axis=-1) == y)


def batches(seed, count, size, epochs):
    """The rows of every batch of every epoch; the same for all runs."""
    rng, each = np.random.default_rng(seed), count // size
    orders = [rng.permutation(count)[: each * size].reshape(each, size) for _ in range(epochs)]
    return jnp.asarray(np.concatenate(orders))


def make_train(tx, data, held_out):
    """One whole run as a pure function of parameters and state: nothing here knows of a sweep."""
    x, y = data

    def step(carry, rows):
        params, state = carry
        grads = jax.grad(lambda p: measure(p, x[rows], y[rows])[0])(params)
        updates, state = tx.update(grads, state, params)
        return (jopt.apply_updates(params, updates), state), None

    def train(params, state, order):
        (params, state), _ = jax.lax.scan(step, (params, state), order)
        return measure(params, *held_out)

    return train


def sweep(train, tx, params, order, rates, decays):
    """All runs at once: a state with a first axis, and other numbers in it."""
    state = jax.vmap(tx.init, in_axes=None, axis_size=len(rates))(params)
    state = jopt.set_hyperparams(state, learning_rate=rates, weight_decay=decays)
    together = jax.jit(jax.vmap(train, in_axes=(None, 0, None)))
    return jax.block_until_ready(together(params, state, order))


def one_by_one(train, tx, params, order, rates, decays):
    """The same runs one after another, by one compiled program: numbers are data."""
    one, found = jax.jit(train), []
    for rate, decay in zip(rates, decays, strict=True):
        state = jopt.set_hyperparams(tx.init(params), learning_rate=rate, weight_decay=decay)
        found.append(jax.block_until_ready(one(params, state, order)))
    assert one._cache_size() == 1
    return tuple(np.array(column) for column in zip(*found, strict=True))


def one_by_one_compiled(data, held_out, params, order, rates, decays):
    """The same runs as constants of the program would have it: each compiled for itself."""
    for rate, decay in zip(rates, decays, strict=True):
        tx = jopt.adamw(float(rate), weight_decay=float(decay))
        train = make_train(tx, data, held_out)
        # The numbers of this state are known to the compiler, as those of a closure are.
        one = jax.jit(lambda p, rows, train=train, tx=tx: train(p, tx.init(p), rows))
        jax.block_until_ready(one(params, order))


def seconds(function, *arguments):
    """What a call returns, and how long it took."""
    began = time.perf_counter()
    return function(*arguments), time.perf_counter() - began


def show(console, rates, decays, losses, accuracies, best=8):
    """The best runs as a table."""
    table = Table("learning rate", "weight decay", "held-out loss", "accuracy")
    for column in table.columns:
        column.justify = "right"
    for i in np.argsort(losses)[:best]:  # NaN, of a run that diverged, comes last
        table.add_row(
            f"{rates[i]:.2e}", f"{decays[i]:g}", f"{losses[i]:.4f}", f"{accuracies[i]:.2%}"
        )
    console.print(table)


@mpl.rc_context(fname=Path(__file__).with_name("pictures.mplstyle"))
def draw(rates, decays, losses, accuracies, path):
    """Two heat maps over learning rate and weight decay; the best run of each is marked."""
    across, up = np.unique(rates), np.unique(decays)
    shape = (len(up), len(across))
    # A run that diverged counts as the worst colour.
    losses = np.clip(np.nan_to_num(losses, nan=np.inf), None, 10.0).reshape(shape)
    accuracies = 100 * accuracies.reshape(shape)
    figure = Figure(figsize=(9.6, 1.9 + 0.45 * 2 * len(up)), dpi=120, layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    edges = np.append(across, across[-1] ** 2 / across[-2]) * np.sqrt(across[0] / across[1])
    panels = [
        ("Held-out loss", losses, "viridis_r", LogNorm(losses.min(), losses.max()), np.argmin),
        ("Held-out accuracy in %", accuracies, "viridis", None, np.argmax),
    ]
    for axis, (title, values, colors, norm, choose) in zip(axes, panels, strict=True):
        rows = np.arange(len(up) + 1) - 0.5
        image = axis.pcolormesh(edges, rows, values, cmap=colors, norm=norm)
        bar = figure.colorbar(image, ax=axis, pad=0.01, format="%g")
        if norm is not None:
            low, high = image.get_clim()
            marks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
            bar.set_ticks([mark for mark in marks if low <= mark <= high], minor=False)
            bar.minorticks_off()
        row, column = np.unravel_index(choose(values), shape)
        axis.plot(across[column], row, "o", mfc="none", mec="#d97706", mew=2, ms=9)
        axis.set_title(f"{title}: best {values[row, column]:.3g}", fontsize=10)
        axis.set(xscale="log", ylabel="weight decay")
        axis.set_yticks(range(len(up)), [f"{decay:g}" for decay in up])
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("learning rate")
    figure.savefig(path)


def main(argv=None):
    """Parse the options, train, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", type=int, default=16, help="how many learning rates")
    parser.add_argument("--weight-decay", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=32, help="width of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true", help="train them one by one as well")
    parser.add_argument("--out", type=Path, default=Path("out/sweep"), help="folder to write to")
    options = parser.parse_args(argv)
    if options.rates < 2:
        parser.error("--rates: a picture needs two at least")
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)

    grid = np.meshgrid(np.geomspace(1e-5, 1, options.rates), sorted(set(options.weight_decay)))
    rates, decays = (axis.ravel().astype(np.float32) for axis in grid)
    data, held_out = load_data()
    params = start(options.seed, options.hidden)
    order = batches(options.seed, len(data[0]), options.batch_size, options.epochs)
    tx = jopt.adamw()
    train = make_train(tx, data, held_out)

    found, together = seconds(sweep, train, tx, params, order, rates, decays)
    losses, accuracies = map(np.asarray, found)
    show(console, rates, decays, losses, accuracies)
    runs, steps = len(rates), len(order)
    console.print(f"{runs} runs of {steps} steps at once: {together:.1f} s, with compiling")
    if options.compare:
        others, alone = seconds(one_by_one, train, tx, params, order, rates, decays)
        some = [axis[:: max(1, runs // 4)][:4] for axis in (rates, decays)]
        _, anew = seconds(one_by_one_compiled, data, held_out, params, order, *some)
        anew *= runs / len(some[0])
        near = np.isclose(losses, others[0], rtol=1e-3, equal_nan=True)
        console.print(f"one by one: {alone:.1f} s, {alone / together:.1f} times as long")
        console.print(f"each compiled anew: {anew:.0f} s, going by {len(some[0])} of them")
        # Sums are in another order. Where a rate is too high, training magnifies that.
        console.print(f"losses that agree to a part in a thousand: {near.sum()} of {runs}")
    draw(rates, decays, losses, accuracies, options.out / "sweep.png")
    console.print(f"picture: {options.out / 'sweep.png'}", soft_wrap=True)


if __name__ == "__main__":
    main()
