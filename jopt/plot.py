"""Pictures of schedules and of runs. matplotlib is imported when one is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import NO_ARRAY, ConfigError, as_row, number_of, plain, settled
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
    _check_axes(ax)
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


def run(
    logged: Any, names: Sequence[str] = ("loss", "learning_rate", "_norm", "_ratio")
) -> list[Axes]:
    """Draw a run: what `jopt.metrics` gave at each step, one picture for each kind of number.

    **Arguments:**

    - `logged`: `{name: a number for each step}`, as `jax.lax.scan` stacks what its body gives, or a
      list of such dicts of single numbers, one a step.
    - `names`: the kinds: regular expressions, each one picture of all the names it occurs in.

    Axes are logarithmic where all numbers are above 0. What is not finite is left out.

    **Returns:** the axes of one new figure, one below the other, one for each kind that there is.

    **Raises:** `ConfigError` for rows that are none, and where no name is of any of the kinds.

    >>> import jopt.plot
    >>> rows = [{"loss": 2.0, "adamw/learning_rate": x} for x in (0.1, 0.2)]
    >>> [ax.get_ylabel() for ax in jopt.plot.run(rows)]
    ['loss', 'learning_rate']
    """
    found = _by_name(logged)
    patterns = (names,) if isinstance(names, str) else as_row(names)
    kinds: dict[str, list[str]] = {}
    try:
        if not isinstance(patterns, tuple):
            raise TypeError(patterns)
        for pattern in patterns:
            kinds[pattern] = [name for name in found if re.search(pattern, name)]
    except (re.error, TypeError):
        expected, told = "regular expressions", repr(names)[:100]
        raise ConfigError("plot", "names= are none", expected=expected, found=told) from None
    kinds = {pattern: mine for pattern, mine in kinds.items() if mine}
    if not kinds:
        told = ", ".join(found)[:200] or "no names"
        raise ConfigError("plot", "nothing to draw", expected=", ".join(patterns), found=told)
    from matplotlib import pyplot

    shape = (6.4, 1 + 2 * len(kinds))
    _, grid = pyplot.subplots(len(kinds), sharex=True, layout="constrained", figsize=shape)
    axes: list[Axes] = [*np.atleast_1d(grid)]
    for ax, (pattern, mine) in zip(axes, kinds.items(), strict=True):
        for name in mine:
            ax.plot(np.arange(found[name].size), found[name], label=name)
        if all((found[name][np.isfinite(found[name])] > 0).all() for name in mine):
            ax.set_yscale("log")
        ax.set_ylabel(pattern.strip("_"))
        ax.spines[["top", "right"]].set_visible(False)
        if len(mine) > 1:
            ax.legend(frameon=False, fontsize="small")
    axes[-1].set_xlabel("step")
    return axes


def rates(search: Any, ax: Axes | None = None) -> Axes:
    """Draw what `jopt.find_learning_rate` found: the losses over the rates, and its suggestion.

    **Arguments:** `search`: what it gave; `ax`: matplotlib's axes, `None` for a new figure.

    **Returns:** the axes.

    **Raises:** `ConfigError` for anything else.
    """
    _check_axes(ax)
    parts = ("rates", "losses", "smoothed", "suggestion")
    if not all(hasattr(search, part) for part in parts):
        told = repr(search)[:100]
        expected = "what jopt.find_learning_rate gives"
        raise ConfigError("plot", "this is no search for a rate", expected=expected, found=told)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
    ax.plot(search.rates, search.losses, color="0.7", linewidth=0.8, label="loss")
    ax.plot(search.rates, search.smoothed, label="smoothed")
    ax.axvline(search.suggestion, linestyle=":", color="0.4", label=f"{search.suggestion:.2g}")
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    calm = search.smoothed[np.isfinite(search.smoothed)]
    if calm.size and calm.max() > calm.min():  # the end of an explosion would hide all else
        ax.set_ylim(calm.min() - 0.1 * abs(calm.min()), 1.05 * calm[: max(1, calm.size)].max())
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def _by_name(logged: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Each name's numbers, one a step; NaN where a step has none of it."""
    many = isinstance(logged, list | tuple) and all(isinstance(row, Mapping) for row in logged)
    if many:
        names = dict.fromkeys(name for row in logged for name in row)
        logged = {name: [row.get(name, np.nan) for row in logged] for name in names}
    try:
        found = {str(name): np.asarray(row, float) for name, row in logged.items()}
        known = all(row.ndim == 1 for row in found.values())
    except (*NO_ARRAY, AttributeError, jax.errors.TracerArrayConversionError):
        known = False
    if not known:
        raise ConfigError(
            "plot",
            "these are no rows of numbers",
            expected="{name: a number for each step}, or a list of {name: number}",
            found=repr(logged)[:100],
        )
    return found


def _check_axes(ax: Any) -> None:
    if ax is not None and not callable(getattr(ax, "plot", None)):
        raise ConfigError(
            "plot", "ax= is no axes", expected="matplotlib's Axes", found=repr(ax)[:100]
        )


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
