"""Fit overlapping peaks between bounds, from many starts at once, and take the best.

A sum of peaks has many minima: a start with two centres under one peak stays there. So
`jopt.minimize` is mapped over 32 random starts by `jax.vmap`, one compiled program, and `.best()`
is the lowest of what they find. The bounds say what is known of the parameters: heights are not
negative, centres lie within the data, widths within reason. Nothing is evaluated outside. The same
is done without bounds, to see what they are good for.

The picture shows the data with the best fit and its peaks, and the misfit of every start on its
way, which `trace=` keeps.

    python examples/fit_peaks.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import jopt

TRUE = {
    "height": np.array([1.0, 0.7, 0.4]),
    "center": np.array([3.2, 4.5, 7.0]),
    "width": np.array([0.5, 0.9, 0.7]),
    "floor": np.array(0.1),
}
LOWER = {"height": 0.0, "center": 0.0, "width": 0.1, "floor": 0.0}
UPPER = {"height": 2.0, "center": 10.0, "width": 2.0, "floor": 1.0}
NOISE = 0.02
TRACE = 400


def peaks(p, x):
    """Each peak in a row of its own, without the floor."""
    height, center, width = (p[k][:, None] for k in ("height", "center", "width"))
    return height * jnp.exp(-(((x - center) / width) ** 2))


def misfit(p, x, y):
    """The mean square of what is left."""
    return jnp.mean((p["floor"] + peaks(p, x).sum(0) - y) ** 2)


def drawn(key, count):
    """That many starts, evenly between the bounds."""
    keys = dict(zip(TRUE, jax.random.split(key, len(TRUE)), strict=True))
    return {
        k: jax.random.uniform(keys[k], (count, *v.shape), minval=LOWER[k], maxval=UPPER[k])
        for k, v in TRUE.items()
    }


def fit(starts, x, y, bounds=None):
    """What `minimize` finds from each start."""

    def one(p):
        return jopt.minimize(misfit, p, x, y, bounds=bounds, trace=TRACE)

    return jax.jit(jax.vmap(one))(starts)


def sense(p):
    """Whether these could be peaks: of each start, all within the bounds."""
    within = [(v >= LOWER[k]) & (v <= UPPER[k]) for k, v in p.items()]
    return jnp.all(jnp.stack([w.reshape(len(w), -1).all(1) for w in within]), axis=0)


@mpl.rc_context(fname=Path(__file__).with_name("pictures.mplstyle"))
def draw(x, y, found, path):
    """Data and the best fit; beneath, every start on its way."""
    best = found.best()
    figure = Figure(figsize=(9.6, 6.4), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1)
    above.plot(x, y, ".", color="#7d838c", ms=4, label="data")
    each = best.params["floor"] + peaks(best.params, x)
    above.plot(x, each.T, color="#1f9e89", lw=1, label=["a peak of it", *[None] * (len(each) - 1)])
    whole = best.params["floor"] + peaks(best.params, x).sum(0)
    above.plot(x, whole, color="#e0653a", label="the best fit")
    above.legend()
    above.set(xlabel="x", ylabel="y")
    below.plot(found.trace.T, color="#3b82c4", lw=0.8, alpha=0.4)
    below.plot(best.trace, color="#e0653a")
    below.set(xlabel="step", ylabel="misfit", yscale="log", xlim=(0, None))
    figure.savefig(path)


def main(argv=None):
    """Make data, fit, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/fit_peaks"), help="folder")
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    options.out.mkdir(parents=True, exist_ok=True)

    of_data, of_starts = jax.random.split(jax.random.key(options.seed))
    x = jnp.linspace(0.0, 10.0, 200)
    y = TRUE["floor"] + peaks(TRUE, x).sum(0) + NOISE * jax.random.normal(of_data, x.shape)
    starts = drawn(of_starts, options.starts)

    free, found = fit(starts, x, y), fit(starts, x, y, (LOWER, UPPER))
    best = found.best()
    for name, tried in {"without bounds": free, "between bounds": found}.items():
        lowest = jnp.sum(tried.value <= best.value * (1 + 1e-6))
        makes_sense = jnp.sum(sense(tried.params))
        print(
            f"{name}: {lowest} of {options.starts} starts end at the best fit, {makes_sense} "
            f"within the bounds; {float(jnp.median(tried.evaluations)):.0f} evaluations (median)"
        )
    print(f"misfit {best.value:.3e}, at the true parameters {misfit(TRUE, x, y):.3e}")
    print(best.message)
    order = jnp.argsort(best.params["center"])
    print(f"{'':8}{'found':>28}{'true':>28}")
    for k, true in TRUE.items():
        value = best.params[k][order] if true.ndim else best.params[k]
        cells = (" ".join(f"{v:6.3f}" for v in np.atleast_1d(row)) for row in (value, true))
        print(f"{k:8}" + "".join(f"{cell:>28}" for cell in cells))
    draw(x, y, found, options.out / "fit_peaks.png")
    print(f"picture: {options.out / 'fit_peaks.png'}")


if __name__ == "__main__":
    main()
