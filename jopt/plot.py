"""Pictures of schedules. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import NO_ARRAY, ConfigError, number_of, plain, settled
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

    **Raises:** `ConfigError` for a plateau without a metric, or with one of another length; for a
    function that gives no number, and for a line that matplotlib does not draw.

    >>> import jopt.plot
    >>> ax = jopt.plot.schedule(jopt.schedules.cosine(1e-3, 90), 100)
    >>> ax.get_xlabel()
    'step'
    """
    if ax is not None and not callable(getattr(ax, "plot", None)):
        raise ConfigError(
            "plot", "ax= is no axes", expected="matplotlib's Axes", found=repr(ax)[:100]
        )
    metric = settled(metric)
    drawn = schedules if isinstance(schedules, Mapping) else {"": schedules}
    rows = {label: values(one, steps, metric=metric) for label, one in drawn.items()}
    if ax is None:  # now that the numbers are known: nobody closes a figure that he never got
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
        try:
            _drawn(ax, rows, line)
        except ConfigError:
            pyplot.close(ax.figure)  # type: ignore[arg-type]
            raise
    else:
        _drawn(ax, rows, line)
    ax.set_xlabel("step")
    ax.margins(x=0.01)
    ax.spines[["top", "right"]].set_visible(False)
    if any(drawn):
        ax.legend(frameon=False)
    return ax


def _drawn(ax: Axes, rows: Mapping[str, np.ndarray[Any, Any]], line: Mapping[str, Any]) -> None:
    for label, row in rows.items():
        style: dict[str, Any] = {"label": label, **line} if label else dict(line)
        try:
            ax.plot(np.arange(row.size), row, **style)
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                "plot",
                "matplotlib does not draw such a line",
                expected="keywords of matplotlib's plot: color=, linestyle=, ...",
                found=f"{', '.join(f'{k}={v!r}' for k, v in style.items())}: {error}"[:300],
            ) from error


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
        return _known(_run(schedule, _series(metric, at)))
    if not callable(schedule):
        as_function("plot", schedule)  # or what it is in place of one is told
        schedule = constant(schedule)
    return _known(_each("the schedule", schedule, at))


def _known(row: jax.Array) -> np.ndarray[Any, Any]:
    if isinstance(row, jax.core.Tracer):
        raise ConfigError(
            "plot",
            "numbers that jax traces cannot be drawn",
            expected="a call outside of jax.jit and the like",
            found=str(row)[:100],
        )
    return np.asarray(row)


def _each(what: str, function: Any, at: jax.Array) -> jax.Array:
    row: jax.Array = jax.vmap(lambda t: number_of("plot", what, function, t))(at)
    if row.shape != at.shape:
        raise ConfigError(
            "plot",
            f"{what} gives more than one number",
            expected="shape ()",
            found=f"shape {row.shape[1:]}",
        )
    return row


def _series(metric: Any, at: jax.Array) -> jax.Array:
    if callable(metric):
        return _each("the metric", metric, at)
    try:
        series = None if metric is None else jnp.asarray(settled(metric))
    except NO_ARRAY:
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
