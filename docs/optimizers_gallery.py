"""Draws each optimizer on three surfaces, `docs/_static/gallery/`.

`python docs/optimizers_gallery.py` draws all, with names after it those alone. Where the paths end
is written beside the pictures, in `ends.json`, so that a test can say whether they still are what
jopt does.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jopt
from jopt import optimizers

FOLDER = Path(__file__).parent / "_static" / "gallery"
STEPS = 200
RATES = np.geomspace(1e-4, 3.0, 28)
"""What the learning rate is chosen from, for each surface."""

PATH, END, LINES, TEXT = "#3b82c4", "#e0653a", "#8a8f98", "#7d838c"
"""Between light and dark, so that one picture does for both."""


def valley(x: Any, y: Any) -> Any:
    """A long valley that lies across the axes: its walls are 40 times as steep as its floor."""
    along, across = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    return 0.5 * (along**2 + 40 * across**2)


def bend(x: Any, y: Any) -> Any:
    """Rosenbrock's function, with its minimum at (1, 1)."""
    return (1 - x) ** 2 + 20 * (y - x**2) ** 2


def saddle(x: Any, y: Any) -> Any:
    """A saddle at 0 between two hollows at y = ±√2, of depth 1 below it; 0 at the bottom."""
    return x**2 - y**2 + y**4 / 4 + 1


SURFACES: dict[str, tuple[Callable[..., Any], tuple[float, float], tuple[float, ...]]] = {
    "valley": (valley, (-2.2, -0.6), (-3, 3, -2.25, 2.25)),
    "bend": (bend, (-1.4, 1.6), (-2, 2, -0.75, 2.25)),
    "saddle": (saddle, (-1.8, 0.02), (-2.4, 2.4, -1.8, 1.8)),
}
"""Each one's function, where the paths begin, and the part shown: x from, to; y from, to."""


def loss(params: Any, which: Any) -> Any:
    """The height at a point of the surface of this number."""
    x, y = params["w"][0]
    return jax.lax.switch(which, [lambda x, y, f=f: f(x, y) for f, _, _ in SURFACES.values()], x, y)


def paths(name: str) -> tuple[np.ndarray, np.ndarray]:
    """An optimizer's rate on each surface, and its points there, (3, steps + 1, 2).

    One compiled program runs all rates on all surfaces. That one is taken whose heights, over the
    second half of the path, are the least in the mean. A rate that is 1 by default stays so: such
    an optimizer finds the length of its steps itself.
    """
    factory = getattr(jopt, name)
    default = inspect.signature(factory).parameters.get("learning_rate")
    own = default is None or default.default == 1.0
    rates = jnp.ones(1) if own else jnp.asarray(RATES, jnp.float32)

    def one(rate: Any, which: Any, start: Any) -> Any:
        tx = factory() if own else factory(learning_rate=rate)
        rows = next(iter(tx.parts.values())).spec.sparse == "rows"

        def step(carry: Any, _: Any) -> Any:
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, which)
            if rows:
                grads = {"w": jopt.row_gradient(jnp.arange(1), grads["w"], params["w"])}
            extra = {"value": value, "value_fn": lambda p: loss(p, which)}
            updates, state = tx.update(grads, state, params, **extra)
            params = jopt.apply_updates(params, updates)
            return (params, state), (params["w"][0], loss(params, which))

        params = {"w": start[None]}
        _, (points, heights) = jax.lax.scan(step, (params, tx.init(params)), None, length=STEPS)
        return jnp.concatenate([start[None], points]), heights

    starts = jnp.array([start for _, start, _ in SURFACES.values()])
    each = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))
    points, heights = jax.jit(each)(rates, jnp.arange(len(SURFACES)), starts)
    half = jnp.nan_to_num(heights[..., STEPS // 2 :], nan=jnp.inf, posinf=jnp.inf).mean(-1)
    best = np.asarray(half.argmin(0))
    chosen = np.asarray(points)[best, np.arange(len(SURFACES))]
    return np.asarray(rates)[best], chosen


def draw(name: str, rates: np.ndarray, points: np.ndarray, path: Path) -> None:
    """The three surfaces with the paths on them, on no ground of their own."""
    import matplotlib.pyplot as plt
    from PIL import Image

    figure, axes = plt.subplots(1, 3, figsize=(6.6, 1.9), layout="constrained")
    for ax, (label, (f, _, box)), rate, track in zip(
        axes, SURFACES.items(), rates, points, strict=True
    ):
        x, y = np.meshgrid(np.linspace(*box[:2], 160), np.linspace(*box[2:], 120))
        heights = np.sqrt(np.asarray(f(x, y)))
        ax.contour(
            x,
            y,
            heights,
            levels=np.linspace(0, heights.max() * 0.8, 13),
            colors=LINES,
            linewidths=0.6,
            alpha=0.7,
        )
        ax.plot(*track.T, color=PATH, linewidth=1.4, marker=".", markersize=2.6)
        ax.plot(*track[-1], "o", color=END, markersize=5)
        ax.set_xlim(*box[:2])
        ax.set_ylim(*box[2:])
        ax.set_xticks([])
        ax.set_yticks([])
        for side in ax.spines.values():
            side.set_color(LINES)
        ax.set_xlabel(f"{label}, rate {rate:.2g}", fontsize=8, color=TEXT)
    figure.savefig(path, dpi=140, transparent=True)
    plt.close(figure)
    with Image.open(path) as image:  # a few colours are all there are
        image.convert("RGBA").quantize(48, method=Image.Quantize.FASTOCTREE).save(
            path, optimize=True
        )


def names() -> list[str]:
    """All optimizers."""
    return [n for n, f in vars(optimizers).items() if inspect.isroutine(f)]


def main(chosen: list[str]) -> None:
    """Draw these optimizers, or all, and write down where their paths end."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "ends.json"
    ends = json.loads(file.read_text()) if chosen and file.exists() else {}
    for name in chosen or names():
        rates, points = paths(name)
        draw(name, rates, points, FOLDER / f"{name}.png")
        ends[name] = {
            label: {"rate": float(f"{rate:.4g}"), "end": [float(f"{v:.4g}") for v in track[-1]]}
            for label, rate, track in zip(SURFACES, rates, points, strict=True)
        }
    file.write_text(json.dumps(dict(sorted(ends.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
