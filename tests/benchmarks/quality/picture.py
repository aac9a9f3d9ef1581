"""Draws the losses that `small_state` has found: their way down, and where they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from tests.benchmarks.pictures import STYLE
from tests.benchmarks.quality.report import BASE

COLORS = {
    "float32": "#7d838c",
    "bfloat16 state": "#3b82c4",
    "int8 state": "#1f9e89",
    "bf16 params, stochastic": "#d08a3e",
    "bf16 params, stochastic, int8 state": "#a16207",
    "bf16 params, master_weights": "#7c5cbf",
    "bf16 params, nearest": "#c8553d",
}


@mpl.rc_context(fname=STYLE)
def draw(rows: Sequence[Mapping[str, Any]], unit: str, path: Path) -> None:
    """One line of panels an optimizer: curves with float32's band, and dots of the seeds."""
    from matplotlib.figure import Figure

    optimizers = list(dict.fromkeys(r["optimizer"] for r in rows))
    figure = Figure(figsize=(11, 0.3 + 3.2 * len(optimizers)), dpi=110, layout="constrained")
    panels = figure.subplots(len(optimizers), 3, squeeze=False, width_ratios=(1.3, 1, 1.45))
    for (curves, last, dots), optimizer in zip(panels, optimizers, strict=True):
        of = [r for r in rows if r["optimizer"] == optimizer]
        lines(curves, of)
        lines(last, of, last=True)
        scattered(dots, of)
        curves.set_title(f"{optimizer}: training loss", fontsize=10, loc="left")
        last.set_title("its last third", fontsize=10, loc="left")
        dots.set_title("held-out loss at the end", fontsize=10, loc="left")
        dots.set_xlabel(unit, fontsize=8)
        for panel in (curves, last, dots):
            panel.tick_params(labelsize=8)
            panel.spines[["top", "right"]].set_visible(False)
        for panel in (curves, last):
            panel.set_xlabel("step", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """As a PNG of 256 colours, half of the size that it has with all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    image.quantize(256, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)


def lines(axes: Any, rows: Sequence[Mapping[str, Any]], last: bool = False) -> None:
    """The means over the seeds; of float32 also the least and the greatest, as a band."""
    points = len(rows[0]["curve"]["mean"])
    at = slice(2 * points // 3 if last else 0, None)
    steps = (rows[0]["steps"] / points * (np.arange(points) + 0.5))[at]
    for row in rows:
        curve = {k: np.asarray(v)[at] for k, v in row["curve"].items()}
        color, base = COLORS[row["variant"]], row["variant"] == BASE
        if base:
            axes.fill_between(
                steps, curve["least"], curve["most"], color=color, alpha=0.25, linewidth=0
            )
        style = "--" if "nearest" in row["variant"] else "-"
        axes.plot(steps, curve["mean"], style, color=color, linewidth=2.2 if base else 1.1)
    axes.set_yscale("log")
    axes.minorticks_off()
    low, high = axes.get_ylim()
    ticks = np.geomspace(low, high, 6)[1:-1]
    axes.set_yticks(ticks, [f"{x:.3g}" for x in ticks])


def scattered(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """A dot a seed and a bar for their mean, over float32's spread."""
    base = next(r for r in rows if r["variant"] == BASE)
    axes.axvspan(min(base["held_out"]), max(base["held_out"]), color=COLORS[BASE], alpha=0.2, lw=0)
    for i, row in enumerate(rows):
        losses, color = np.asarray(row["held_out"]), COLORS[row["variant"]]
        axes.plot(losses, np.full(len(losses), i), "o", color=color, ms=4, alpha=0.7, mew=0)
        axes.plot([losses.mean()], [i], "|", color=color, ms=14, mew=2)
    axes.set_yticks(range(len(rows)), [r["variant"] for r in rows])
    axes.invert_yaxis()
