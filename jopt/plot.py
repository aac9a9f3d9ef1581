"""Pictures of schedules. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import ConfigError, plain, settled, unbranched
from jopt.schedules import Plateau, constant
from jopt.schedules.shapes import as_function, check_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def schedule(
    schedules: Any,
    steps: int,
    ax: Axes | None = None,
    *,
    metric: Any = None,
    **line: Any,
) -> Axes:
    """Draw schedules over the steps 0, ..., steps − 1.

    **Arguments:**

    - `schedules`: a schedule, a function of the step or a number; or a dict of such by label,
      which are drawn as lines of one picture with a legend.
    - `steps`: how many steps.
    - `ax`: the matplotlib axes to draw on; `None` for those of a new figure.
    - `metric`: what a `plateau` sees: one number for each step, or a function of the step.
    - `**line`: for matplotlib's `plot`: `color`, `linestyle`, ...

    **Returns:** the axes.

    **Raises:** `ConfigError` for a plateau without a metric, or with one of another length.

    >>> import jopt.plot
    >>> ax = jopt.plot.schedule(jopt.schedules.cosine(1e-3, 90), 100)
    >>> ax.get_xlabel()
    'step'
    """
    if ax is not None and not callable(getattr(ax, "plot", None)):
        raise ConfigError(
            "plot", "ax= is no axes", expected="matplotlib's Axes", found=repr(ax)[:100]
        )
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
    metric = settled(metric)
    drawn = schedules if isinstance(schedules, Mapping) else {"": schedules}
    for label, one in drawn.items():
        style: dict[str, Any] = {"label": label, **line} if label else line
        ax.plot(np.arange(steps), values(one, steps, metric=metric), **style)
    ax.set_xlabel("step")
    ax.margins(x=0.01)
    ax.spines[["top", "right"]].set_visible(False)
    if any(drawn):
        ax.legend(frameon=False)
    return ax


def values(schedule: Any, steps: int, *, metric: Any = None) -> np.ndarray[Any, Any]:
    """What a schedule gives at the steps 0, ..., steps − 1: the numbers behind the picture.

    **Arguments:** as those of `schedule`.

    >>> from jopt.schedules import plateau
    >>> values(plateau(1.0, factor=0.5, patience=0), 4, metric=[3.0, 2.0, 2.0, 1.0]).tolist()
    [1.0, 1.0, 1.0, 0.5]
    """
    check_row("plot", steps)
    at = jnp.arange(plain(steps), dtype=jnp.int32)
    if isinstance(schedule, Plateau):
        return np.asarray(_run(schedule, _series(metric, at)))
    if not callable(schedule):
        as_function("plot", schedule)  # or what it is in place of one is told
        schedule = constant(schedule)
    with unbranched("plot", "the schedule", repr(schedule)):
        return np.asarray(jax.vmap(lambda t: jnp.asarray(schedule(t)))(at))


def _series(metric: Any, at: jax.Array) -> jax.Array:
    if callable(metric):
        with unbranched("plot", "the metric", repr(metric)):
            return jnp.asarray(jax.vmap(lambda t: jnp.asarray(metric(t)))(at))
    try:
        series = None if metric is None else jnp.asarray(settled(metric))
    except (TypeError, ValueError):
        series = jnp.empty(())
    if series is None or series.shape != at.shape:
        raise ConfigError(
            "plot",
            "a plateau is drawn against a metric",
            expected=f"metric= with {at.size} numbers, or a function of the step",
            found="none" if series is None else f"shape {series.shape}",
        )
    return series


def _run(schedule: Plateau, series: jax.Array) -> jax.Array:
    def one(memory: dict[str, Any], metric: jax.Array) -> tuple[dict[str, Any], jax.Array]:
        now, memory = schedule.update(memory, value=metric)
        return memory, now

    return jax.lax.scan(one, schedule.init(), series)[1]
