"""Train a small network on handwritten digits, and survive being killed.

The data come with scikit-learn, nothing is downloaded. After every epoch one file, written
atomically, holds all that the next epoch depends on: parameters, optimizer state, epoch, the
seed of the data order, the history. Kill the run at any moment and start it again with the same
command: it goes on from that file and ends with the very same parameters, bit for bit, on as
many processor cores: with another number of them XLA sums in another order.

    python examples/digits.py
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jopt


class Net(nnx.Module):
    """Two convolutions with LayerNorm, then a linear classifier."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.norm1 = nnx.LayerNorm(32, rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), strides=2, rngs=rngs)
        self.norm2 = nnx.LayerNorm(64, rngs=rngs)
        self.head = nnx.Linear(4 * 4 * 64, 10, rngs=rngs)

    def __call__(self, x):
        """The ten logits of each image."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(x.reshape(len(x), -1))


def make_optimizer(peak, steps):
    """AdamW behind a clip; no decay for biases and scales; a warm-up, then a cosine."""
    rate = jopt.schedules.warmup_cosine(peak, max(1, steps // 10), max(2, steps))
    no_decay = jopt.group(r"(bias|scale)$", weight_decay=0.0)
    return jopt.chain(
        jopt.clip_by_global_norm(1.0),
        jopt.adamw(rate, weight_decay=0.05, groups={"no_decay": no_decay}),
    )


def load_data():
    """The 1797 images in [0, 1], a fifth of them held out; the same split every time."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    return train_test_split(
        images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=0
    )


def make_step(graph, tx):
    """One compiled training step. Its first two arguments are donated: updated in place."""

    def loss_of(params, images, labels):
        predicted = jax.nn.log_softmax(nnx.merge(graph, params)(images))
        return -jnp.mean(jnp.sum(jax.nn.one_hot(labels, 10) * predicted, axis=-1))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, images, labels):
        loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
        updates, state = tx.update(grads, state, params)
        return jopt.apply_updates(params, updates), state, loss

    return step


def make_accuracy(graph, images, labels):
    """A compiled function: the part of the held-out images that `params` get right."""

    @jax.jit
    def accuracy(params):
        return jnp.mean(jnp.argmax(nnx.merge(graph, params)(images), axis=-1) == labels)

    return accuracy


def fresh(settings, params, tx, steps):
    """The run before its first epoch: all that a checkpoint holds."""
    return {
        "settings": settings,
        "epoch": 0,
        "params": params,
        "state": tx.init(params),
        "history": {
            "loss": np.full(steps, np.nan, np.float32),
            "learning_rate": np.full(steps, np.nan, np.float32),
            "accuracy": np.full(settings["epochs"], np.nan, np.float32),
        },
    }


def resume(path, run, tx):
    """The run that the checkpoint holds, or `run` itself where there is none yet."""
    if not path.exists():
        return run
    found = jopt.load(path)["settings"]
    if found != run["settings"]:
        options = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in found.items())
        raise SystemExit(f"{path} holds a run with {options}\nRepeat it, or choose another --out.")
    run = jopt.load(path, like=run, tx=tx)
    print(f"Going on from {path}: {run['epoch']} of {found['epochs']} epochs are done.")
    return run


def train(run, tx, step, accuracy, images, labels, path):
    """The epochs that are left, with a checkpoint after each."""
    settings, history = run["settings"], {k: np.array(v) for k, v in run["history"].items()}
    params, state = run["params"], run["state"]
    size, batches = settings["batch_size"], len(images) // settings["batch_size"]
    with progress_bar() as progress:
        log = progress.console.print
        done = run["epoch"] * batches
        last = {"loss": history["loss"][done - 1], "rate": history["learning_rate"][done - 1]}
        bar = progress.add_task("", total=len(history["loss"]), completed=done, **last)
        for epoch in range(run["epoch"], settings["epochs"]):
            # The order depends on seed and epoch alone: a resumed epoch sees the same batches.
            order = np.random.default_rng((settings["seed"], epoch)).permutation(len(images))
            steps = range(epoch * batches, (epoch + 1) * batches)
            for t, chosen in zip(steps, order[: size * batches].reshape(-1, size), strict=True):
                rate = float(jopt.hyperparams(state)["adamw"]["default"]["learning_rate"])
                params, state, loss = step(params, state, images[chosen], labels[chosen])
                history["loss"][t], history["learning_rate"][t] = float(loss), rate
                progress.update(bar, completed=t + 1, loss=float(loss), rate=rate)
            history["accuracy"][epoch] = float(accuracy(params))
            run |= {"epoch": epoch + 1, "params": params, "state": state, "history": history}
            jopt.save(path, run, tx=tx)
            mean, right = history["loss"][steps].mean(), history["accuracy"][epoch]
            log(f"epoch {epoch + 1:3}   loss {mean:.4f}   held-out accuracy {right:.2%}")
    return run


def progress_bar():
    """Loss and learning rate beside a bar; plain text where the output is no terminal."""
    return Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TextColumn("learning rate {task.fields[rate]:.2e}"),
        TimeRemainingColumn(),
    )


@mpl.rc_context(fname=Path(__file__).with_name("pictures.mplstyle"))
def draw(run, path):
    """Loss, held-out accuracy and learning rate over the epochs, as a PNG."""
    history, epochs = run["history"], run["settings"]["epochs"]
    per_step = epochs * np.arange(1, len(history["loss"]) + 1) / len(history["loss"])
    per_epoch = np.arange(1, epochs + 1)
    blue, green, orange = "#3b82c4", "#1f9e89", "#e0653a"

    figure = Figure(figsize=(9.6, 3.3), dpi=120, layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    loss.semilogy(per_step, history["loss"], color=blue, alpha=0.25, linewidth=0.8)
    means = history["loss"].reshape(epochs, -1).mean(axis=1)
    loss.semilogy(per_epoch - 0.5, means, color=blue, linewidth=2)
    loss.set_title("Training loss: each batch, each epoch")

    accuracy.plot(per_epoch, 100 * history["accuracy"], color=green, linewidth=2)
    last = 100 * float(history["accuracy"][-1])
    accuracy.plot(epochs, last, "o", color=green, clip_on=False)
    accuracy.annotate(
        f"{last:.1f} %", (epochs, last), (-6, -16), textcoords="offset points", ha="right"
    )
    accuracy.set_ylim(min(90.0, last - 2), 100)
    accuracy.set_title("Held-out accuracy in %")

    rate.fill_between(per_step, history["learning_rate"], color=orange, alpha=0.15, linewidth=0)
    rate.plot(per_step, history["learning_rate"], color=orange, linewidth=2)
    rate.ticklabel_format(axis="y", scilimits=(-3, -3), useMathText=True)
    rate.set_ylim(bottom=0)
    rate.set_title("Learning rate")

    for panel in (loss, accuracy, rate):
        panel.set_xlim(0, epochs)
        panel.set_xlabel("epoch")
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.title.set(fontsize=10)
        panel.grid()
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def at_least(least):
    """The argparse type of whole numbers from `least` on."""

    def whole(text):
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return whole


def main(argv=None):
    """Parse the options, train what is left to train, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=at_least(1), default=20)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--batch-size", type=at_least(1), default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="at its peak")
    parser.add_argument("--out", type=Path, default=Path("out/digits"), help="folder to write to")
    options = parser.parse_args(argv)
    settings = {name: value for name, value in vars(options).items() if name != "out"}

    images, test_images, labels, test_labels = load_data()
    if options.batch_size > len(images):
        parser.error(f"--batch-size: there are only {len(images)} images to train on")
    steps = options.epochs * (len(images) // options.batch_size)
    graph, params = nnx.split(Net(nnx.Rngs(options.seed)))
    tx = make_optimizer(options.learning_rate, steps)

    options.out.mkdir(parents=True, exist_ok=True)
    for unfinished in options.out.glob(".jopt-*.tmp"):  # left by a kill within a save
        unfinished.unlink()
    checkpoint, picture = options.out / "run.msgpack", options.out / "training.png"
    try:
        run = resume(checkpoint, fresh(settings, params, tx, steps), tx)
    except jopt.JoptError as error:
        raise SystemExit(f"{error}\nRemove {checkpoint} to start anew.") from error
    step, accuracy = make_step(graph, tx), make_accuracy(graph, test_images, test_labels)
    run = train(run, tx, step, accuracy, images, labels, checkpoint)
    draw(run, picture)
    print(f"Held-out accuracy {run['history']['accuracy'][-1]:.2%}.")
    print(f"The run is in {checkpoint}, its picture in {picture}.")


if __name__ == "__main__":
    main()
