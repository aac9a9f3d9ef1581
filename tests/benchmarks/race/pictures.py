"""A picture of each task: how far each entrant ends from AdamW, and the way there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from tests.benchmarks.pictures import STYLE
from tests.benchmarks.quality.picture import save
from tests.benchmarks.race.statistics import Result, baseline, gap, results
from tests.benchmarks.race.store import Store

INK = "#7d838c"
COLORS = {
    "better": "#1f9e89",
    "worse": "#c8553d",
    "uncertain": INK,
    "diverged": "#c8553d",
}
SHOWN = ("#1f9e89", "#3b82c4", "#c99a2e")
WIDEST = 100.0
"""Per cent that the left panel shows at most; those beyond are drawn at its edge."""


@mpl.rc_context(fname=STYLE)
def draw(store: Store, folder: Path) -> Path | None:
    """The picture of a task; None while there is no baseline."""
    from matplotlib.figure import Figure

    found, name = results(store), baseline(store)
    if name is None or name not in found:
        return None
    figure = Figure(figsize=(11, 1.2 + 0.22 * len(found)), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    gaps(left, found, name)
    curves(right, found, name, store)
    for panel in (left, right):
        panel.tick_params(which="both", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    path = folder / f"{store.task.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
    return path


def gaps(axes: Any, found: dict[str, Result], base: str) -> None:
    """Dots of the seeds, and the interval of their mean."""
    for i, of in enumerate(found.values()):
        difference = gap(of, found[base])
        color, scale = COLORS[difference.verdict], 100 / difference.base
        if not of.finite:
            axes.plot([WIDEST], [i], ">", color=color, ms=5)
            continue
        dots = (scale * difference.each).clip(-WIDEST, WIDEST)
        low, high = (min(max(scale * x, -WIDEST), WIDEST) for x in difference.interval)
        axes.plot([low, high], [i, i], "-", color=color, lw=2.5, solid_capstyle="butt")
        axes.plot(dots, [i] * len(dots), "o", color=color, ms=3, alpha=0.5, mew=0)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_title("held-out loss at the end, per cent from AdamW", fontsize=10, loc="left")


def curves(axes: Any, found: dict[str, Result], base: str, store: Store) -> None:
    """The means over the seeds: AdamW, the best three that are no controls, and all the others."""
    best = [name for name in found if name != base and not name.startswith("optax")]
    chosen = dict(zip(best, SHOWN, strict=False))
    for name, of in reversed(found.items()):
        if not of.finite:
            continue
        means = of.curves.mean(axis=0)
        at = [store.task.steps * (i + 1) // len(means) for i in range(len(means))]
        if name == base:
            axes.plot(at, means, color=INK, lw=2.6, label=name, zorder=3)
        elif name in chosen:
            axes.plot(at, means, color=chosen[name], lw=1.6, label=name, zorder=2)
        else:
            axes.plot(at, means, color=INK, lw=0.6, alpha=0.5, zorder=1)
    axes.set_yscale("log")
    ends = [of.order for of in found.values() if of.finite]
    top = max(found[base].curves.mean(axis=0)[0], 1.05 * min(ends))
    axes.set_ylim(0.95 * min(ends), 1.05 * top)
    axes.legend(fontsize=8)
    axes.set_xlabel("step", fontsize=8)
    axes.set_title(f"held-out loss, {store.task.unit}", fontsize=10, loc="left")
