"""Draws `docs/_static/schedules.png`: `python docs/schedules_gallery.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jopt
from jopt import schedules as s

STEPS = 600
# Between light and dark, so that one picture does for both.
INK, MUTED, SECOND = "#3b82c4", "#7d838c", "#e0653a"


def panels() -> dict[str, dict[str, Any]]:
    """Each picture's title, and its schedules by label; one without a label needs no legend."""
    return {
        "constant": {
            "constant": s.constant(0.8),
            "constant_factor": s.constant_factor(1.0, 1 / 3, 150),
        },
        "linear": {"": s.linear(1 / 3, 1.0, 300)},
        "polynomial": {"power 1": s.polynomial(1.0, 500), "power 3": s.polynomial(1.0, 500, 3.0)},
        "exponential": {"": s.exponential(1.0, 0.99)},
        "step": {"": s.step(1.0, 150, gamma=0.5)},
        "multistep": {"": s.multistep(1.0, [100, 350, 500], gamma=0.4)},
        "cosine": {"cosine": s.cosine(1.0, 350), "cosine_annealing": s.cosine_annealing(1.0, 350)},
        "cosine_restarts": {
            "multiplier 1": s.cosine_restarts(1.0, 200),
            "multiplier 2": s.cosine_restarts(1.0, 86, 2),
        },
        "warmup_cosine": {"": s.warmup_cosine(1.0, 100, 550, end_value=0.1)},
        "cyclic": {
            "triangular": s.cyclic(0.1, 1.0, 75),
            "triangular2": s.cyclic(0.1, 1.0, 75, mode="triangular2"),
        },
        "cyclic_momentum": {
            "triangular": s.cyclic_momentum(base_value=0.85, max_value=0.95, steps_up=75),
            "triangular2": s.cyclic_momentum(
                base_value=0.85, max_value=0.95, steps_up=75, mode="triangular2"
            ),
        },
        "onecycle": {
            "two phases": s.onecycle(1.0, STEPS),
            "three_phase": s.onecycle(1.0, STEPS, three_phase=True),
        },
        "onecycle_momentum": {
            "two phases": s.onecycle_momentum(STEPS),
            "three_phase": s.onecycle_momentum(STEPS, three_phase=True),
        },
        "wsd": {
            "linear": s.wsd(1.0, 75, 325, 200),
            "1-sqrt": s.wsd(1.0, 75, 325, 200, anneal="1-sqrt"),
        },
        "wsd, cycles": {
            "sqrt": s.wsd(1.0, 60, 140, 40, anneal="sqrt", cycles=3),
            "stretched": s.stretched(s.wsd(0.6, 10, 70, 20), 100, STEPS),
        },
        "sgdr": {"": s.sgdr([1.0, 0.7, 0.5], [120, 200, 280], warmup_steps=30)},
        "piecewise": {
            "linear": s.piecewise(1.0, [150, 300, 450], [0.5, 0.7, 0.1]),
            "cosine": s.piecewise(0.8, [150, 300, 450], [0.3, 0.5, 0.0], anneal="cosine"),
        },
        "warmup_constant": {"": s.warmup_constant(1.0, 100)},
        "rectified": {"": s.rectified(1.0, b2=0.99)},
        "inverse_sqrt": {
            "": s.inverse_sqrt(1.0, 75),
        },
        "join": {"": s.join([s.linear(0.1, 0.6, 150), s.step(1.0, 100, gamma=0.6)], [150])},
        "table": {"": s.table([0.3 + 0.7 * (1 + t) ** -0.5 for t in range(STEPS)])},
        "product": {"": s.product(s.linear(0.1, 1.0, 150), s.step(1.0, 120, gamma=0.7))},
        "scaled · multiplicative": {
            "scaled": s.scaled(1.0, lambda t: jnp.exp(-((t / 250) ** 2))),
            "multiplicative": s.multiplicative(1.0, lambda k: 1 - 1 / (k + 100)),
        },
        "swa": {"": s.swa(s.cosine(1.0, 600), 0.6, 100, start=350)},
        "warmup": {"": s.warmup(s.multistep(1.0, [200, 350], 0.4), 100)},
        "plateau": {"": s.plateau(1.0, factor=0.5, patience=50, cooldown=30, threshold=0.03)},
    }


def loss(steps: int = STEPS) -> np.ndarray:
    """A loss that falls, rests, and falls again."""
    t = np.arange(steps)
    noise = np.random.default_rng(3).normal(size=steps)
    return 0.25 + 0.75 * np.exp(-t / 45) * 0.6 + 0.3 / (1 + np.exp((t - 300) / 20)) + 0.006 * noise


def draw(path: Path) -> None:
    """Draw all panels to a PNG at `path`."""
    style = {
        "font.size": 8.5,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": MUTED,
        "axes.prop_cycle": plt.cycler(color=[INK, SECOND], linestyle=["-", "--"]),
        "axes.labelcolor": MUTED,
        "axes.titlecolor": MUTED,
        "text.color": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "lines.linewidth": 1.8,
        "legend.fontsize": 7.5,
    }
    with plt.rc_context(style):
        every = panels()
        rows = -(-len(every) // 4)
        figure, axes = plt.subplots(rows, 4, figsize=(10, 1.75 * rows), layout="constrained")
        for ax in axes.flat[len(every) :]:
            ax.set_axis_off()
        for ax, (title, drawn) in zip(axes.flat, every.items(), strict=False):
            metric = loss() if title == "plateau" else None
            jopt.plot.schedule(drawn, STEPS, ax, metric=metric)
            ax.set_title(title)
            ax.set_xlabel("")
            low, high = (0.85, 0.95) if "momentum" in title else (0.0, 1.0)
            room = 0.3 if len(drawn) > 1 else 0.07
            ax.set_ylim(low - 0.04 * (high - low), high + room * (high - low))
            ax.set_yticks([low, (low + high) / 2, high])
            if len(drawn) > 1:
                ax.legend(
                    frameon=False, ncols=2, loc="upper center", handlelength=1.6, columnspacing=1
                )
            ax.set_xticks([0, 200, 400, 600])
            ax.tick_params(length=2)
            if metric is not None:
                ax.plot(metric, color=SECOND, linewidth=0.9, linestyle="-", alpha=0.8)
                ax.annotate("loss", (480, 0.33), color=SECOND, fontsize=7.5)
        figure.supxlabel("step", fontsize=9, color=MUTED)
        figure.savefig(path, dpi=150, transparent=True)
        plt.close(figure)


if __name__ == "__main__":
    draw(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "_static/schedules.png"
    )
