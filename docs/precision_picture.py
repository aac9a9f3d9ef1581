"""Draws `docs/_static/precision.png`: `python docs/precision_picture.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jopt

STEPS, WEIGHTS = 100, 1000
INK, MUTED, SECOND = "#3b82c4", "#7d838c", "#e0653a"
STYLE = Path(__file__).parents[1] / "examples" / "pictures.mplstyle"


def path_of(tx: jopt.Transform, rounding: Any) -> np.ndarray:
    """bfloat16 weights of 1 under steps of 0.001: where each of them is after each step."""
    ones = jnp.ones(WEIGHTS, "bfloat16")

    def step(carry: Any, key: Any) -> Any:
        params, state = jopt.step(tx, ones, carry[1], carry[0], rounding=rounding, key=key)
        return (params, state), params.astype(jnp.float32)

    keys = jax.random.split(jax.random.key(0), STEPS)
    seen = jax.lax.scan(step, (ones, tx.init(ones)), keys)[1]
    return np.concatenate([np.ones((1, WEIGHTS)), seen])


def draw(path: Path) -> None:
    """One panel a way: a weight, and the mean of all, beside the line they should follow."""
    sgd = jopt.sgd(1e-3)
    drawn = {
        "nearest": path_of(sgd, "nearest"),
        "stochastic": path_of(sgd, "stochastic"),
        "master_weights": path_of(jopt.master_weights(sgd), "nearest"),
    }
    style = {"font.size": 9, "axes.titleweight": "bold", "axes.titlelocation": "left"}
    with plt.style.context([STYLE, style]):
        figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True, layout="constrained")
        for ax, (title, seen) in zip(axes, drawn.items(), strict=True):
            ax.plot([0, STEPS], [1, 0.9], color=MUTED, linewidth=0.9, label="without rounding")
            ax.plot(seen[:, 0], color=SECOND, linewidth=1.2, label="one weight")
            ax.plot(seen.mean(1), color=INK, linestyle="--", label=f"mean of {WEIGHTS:,}")
            ax.set_title(title)
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(length=2)
        axes[0].legend(loc="lower left", fontsize=8)
        figure.supxlabel("step", fontsize=9)
        figure.savefig(path, dpi=150)
        plt.close(figure)


if __name__ == "__main__":
    draw(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "_static/precision.png"
    )
