"""Half a training run in torch, the other half in jax, and one curve.

torch trains a small convolutional network on scikit-learn's digits: AdamW with two groups, a
cosine schedule. Half way it saves what people save, and goes on. jopt and flax read that file,
weights, moments, step count, groups and schedule, and take the second half over the same batches.
The two second halves differ by rounding alone: with --precision float64 by almost nothing.

    pip install 'jopt[examples,torch]'
    python examples/torch_to_jax.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import torch
from flax import nnx
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jopt
from jopt.interop.torch import flax_weights, import_optimizer, import_params, import_scheduler


class TorchNet(torch.nn.Module):
    """Two convolutions, the mean over the image, a linear classifier."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(32, 10)

    def forward(self, x):
        """The ten logits of each image."""
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.head(x.mean(dim=(2, 3)))


class FlaxNet(nnx.Module):
    """The same network; images have their channels last."""

    def __init__(self, rngs, dtype):
        kinds = {"param_dtype": dtype, "rngs": rngs}
        self.conv1 = nnx.Conv(1, 16, (3, 3), padding=1, **kinds)
        self.conv2 = nnx.Conv(16, 32, (3, 3), strides=2, padding=1, **kinds)
        self.head = nnx.Linear(32, 10, **kinds)

    def __call__(self, x):
        """The ten logits of each image."""
        x = nnx.relu(self.conv2(nnx.relu(self.conv1(x))))
        return self.head(x.mean(axis=(1, 2)))


def load_batches(steps, size, dtype):
    """The batches of all steps: images in [0, 1], (step, image, 8, 8), and labels."""
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(len(images))[:size] for _ in range(steps)])
    return images.reshape(-1, 8, 8).astype(dtype)[rows] / 16, labels.astype(np.int64)[rows]


class TorchRun:
    """Model, optimizer and scheduler, as torch users write them."""

    def __init__(self, steps, learning_rate, dtype):
        torch.manual_seed(0)
        self.model = TorchNet().to(getattr(torch, dtype))
        named = list(self.model.named_parameters())
        groups = [
            {"params": [(n, p) for n, p in named if p.ndim > 1], "weight_decay": 0.05},
            {"params": [(n, p) for n, p in named if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def train(self, images, labels):
        """A step for each batch; the losses."""
        losses = []
        for x, y in zip(torch.from_numpy(images), torch.from_numpy(labels), strict=True):
            loss = torch.nn.functional.cross_entropy(self.model(x[:, None]), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        return losses

    def save(self, path):
        """One file with the three state dicts."""
        parts = ("model", "optimizer", "scheduler")
        torch.save({name: getattr(self, name).state_dict() for name in parts}, path)


def take_over(path, dtype):
    """The graph, transform, parameters and state that go on where the torch file stops."""
    saved = torch.load(path, weights_only=True)  # runs no code from the file
    graph, like = nnx.split(FlaxNet(nnx.Rngs(0), jnp.dtype(dtype)))
    names = flax_weights(like)  # conv1/kernel is conv1.weight with other axes, and so on
    params = import_params(like, saved["model"], names)
    rate = import_scheduler("CosineAnnealingLR", saved["scheduler"])
    no_decay = jopt.group("bias$", weight_decay=0.0)
    tx = jopt.adamw(rate, weight_decay=0.05, groups={"no_decay": no_decay})
    return graph, tx, params, import_optimizer(tx, params, saved["optimizer"], names)


def train(graph, tx, params, state, images, labels):
    """A step for each batch; the parameters, the state and the losses."""

    def loss_of(params, x, y):
        predicted = jax.nn.log_softmax(nnx.merge(graph, params)(x[..., None]))
        return -jnp.take_along_axis(predicted, y[:, None], axis=-1).mean()

    @jax.jit
    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = tx.update(grads, state, params)
        return jopt.apply_updates(params, updates), state, loss

    losses = []
    for x, y in zip(images, labels.astype(np.int32), strict=True):
        params, state, loss = step(params, state, x, y)
        losses.append(float(loss))
    return params, state, losses


def distance(ours, theirs):
    """The largest difference of the parameters, each in units of its largest value."""
    theirs = import_params(ours, theirs.model.state_dict())
    apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), ours, theirs)
    return float(max(jax.tree.leaves(apart)))


@mpl.rc_context(fname=Path(__file__).with_name("pictures.mplstyle"))
def draw(first, second, other, path):
    """The loss of the first half, and both second halves on top of each other."""
    blue, orange = "#3b82c4", "#e0653a"
    figure = Figure(figsize=(7.2, 3.4), dpi=120, layout="constrained")
    panel = figure.subplots()
    before, after = np.arange(len(first)), np.arange(len(first), len(first) + len(second))
    panel.plot(before, first, color=orange, linewidth=1.5, label="torch")
    panel.plot(after, other, color=orange, linewidth=5, alpha=0.35, label="torch, had it gone on")
    panel.plot(after, second, color=blue, linewidth=1.5, label="jopt and flax")
    panel.axvline(len(first) - 0.5, color="#7d838c", linewidth=0.8, linestyle=":")
    panel.set_title("One training run: half in torch, half in jax", fontsize=10)
    panel.set_xlabel("step")
    panel.set_ylabel("loss of the batch")
    panel.set_xlim(0, len(first) + len(second))
    panel.set_ylim(bottom=0)
    panel.tick_params(labelsize=8)
    panel.grid()
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8)
    figure.savefig(path)


def main(argv=None):
    """Train both halves, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300, help="of both halves together")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.01, help="at its start")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float32")
    parser.add_argument("--out", type=Path, default=Path("out/torch_to_jax"))
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_enable_x64", options.precision == "float64")

    half = options.steps // 2
    images, labels = load_batches(options.steps, options.batch_size, options.precision)
    theirs = TorchRun(options.steps, options.learning_rate, options.precision)
    first = theirs.train(images[:half], labels[:half])
    theirs.save(options.out / "half.pt")
    other = theirs.train(images[half:], labels[half:])

    graph, tx, params, state = take_over(options.out / "half.pt", options.precision)
    print(f"jopt goes on at step {int(state['adamw']['count'])} with\n  {tx}")
    params, state, second = train(graph, tx, params, state, images[half:], labels[half:])

    apart = np.abs(np.subtract(second, other))
    print(f"loss of the last batch: torch {other[-1]:.6f}, jopt {second[-1]:.6f}")
    print(f"losses differ by {apart[0]:.1e} at the first step, by {apart.max():.1e} at most")
    print(f"parameters differ by {distance(params, theirs):.1e} of the largest")
    draw(first, second, other, options.out / "torch_to_jax.png")
    print(f"picture: {options.out / 'torch_to_jax.png'}")


if __name__ == "__main__":
    main()
