"""The learning-rate range test: one run in which the rate grows until the loss explodes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt import plot
from jopt.base import ConfigError, TreeError, called, checked, whole_number
from jopt.core import State, Transform, apply_updates, set_hyperparams
from jopt.core.checks import as_array
from jopt.core.entrance import arrays, limit, real_scalar, start_point, wrong
from jopt.core.transform import check_transform
from jopt.core.tree import Tree, layout_of
from jopt.numerics import debias, number_dtype
from jopt.numerics.loops import while_loop

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHO = "find_learning_rate"

Row = np.ndarray[Any, Any]


class RateSearch(NamedTuple):
    """What `find_learning_rate` saw, step by step.

    **Attributes:** `rates`, `losses` and `smoothed`, the running mean of the losses, an array each
    with a number for every step made; `exploded`, whether it ended because the loss did.
    """

    rates: Row
    losses: Row
    smoothed: Row
    exploded: bool

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss was lowest: too large already."""
        return float(self.rates[self._best()])

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss fell most steeply along log η, before its lowest."""
        best = self._best()
        if best == 0:
            return float(self.rates[0])
        slopes = np.gradient(self.smoothed, np.log(self.rates))
        return float(self.rates[int(np.argmin(slopes[: best + 1]))])

    @property
    def suggestion(self) -> float:
        """A rate to begin with: the steepest, or a tenth of the lowest where that is less."""
        return min(self.steepest, self.lowest / 10)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The losses over the rates, see `jopt.plot.rates`."""
        return plot.rates(self, ax)

    def _best(self) -> int:
        return int(np.nanargmin(self.smoothed)) if np.isfinite(self.smoothed).any() else 0


class _Run(NamedTuple):
    params: Tree
    state: State
    step: Array
    mean: Array
    best: Array
    over: Array
    losses: Array
    smoothed: Array


@checked(itself=("loss", "params", "batches", "low", "high", "smoothing", "stop"))
def find_learning_rate(
    tx: Transform,
    loss: Callable[..., Any],
    params: Any,
    batches: Any = None,
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    stop: float = 4.0,
    label: str | None = None,
) -> RateSearch:
    """Train for a few steps with a rate that grows, and see at which the loss falls.

    With f the loss at the parameters and the batch of step t = 0, ..., n − 1:

        ηₜ = low·(high / low)^(t / (n − 1))
        m ← β·m + (1 − β)·f,  s = m / (1 − βᵗ⁺¹)
        it ends where s > stop·min s, or f is not finite

    in one compiled loop. Each step is one of `tx` at the rate ηₜ; neither `params` nor anything
    else of yours is changed.

    **Arguments:**

    - `tx`: the transform, with a number for its `learning_rate`, not a schedule. Groups that
      multiply follow it; those that have a rate of their own keep it.
    - `loss`: `loss(params, batch)`, or `loss(params)` without batches: a real scalar.
    - `params`: where to begin.
    - `batches`: a tree of arrays whose first axis numbers the batches, which are taken in turn; or
      the batches themselves, trees of one structure and shape, in a list, an iterator or a loader,
      which is asked for `steps` of them at most.
    - `low`, `high`: the first and last rate, 0 < low < high.
    - `steps`: n ≥ 2, how many at most.
    - `smoothing`: β in [0, 1).
    - `stop`: how many times the lowest smoothed loss is too much, > 1; of losses below 0, which
      have no such factor, only what is not finite is.
    - `label`: which optimizer, if several have a learning rate, as `jopt.hyperparams` calls it.

    **Returns:** a `jopt.RateSearch`, with `suggestion` and `plot()`.

    **Raises:** `ConfigError` for limits out of range, a loss that is no real scalar, a transform
    without a learning rate, and inside `jax.jit`; `TreeError` for batches without an axis, and for
    single ones that differ in shape.

    Source: Smith, 2017, "Cyclical learning rates for training neural networks", section 3.3;
    smoothing, the end at four times the lowest and the suggestions are fastai's.

    >>> import jax.numpy as jnp, jopt
    >>> def loss(w):
    ...     return jnp.sum((w - 1.0) ** 2)
    >>> found = jopt.find_learning_rate(jopt.sgd(0.1), loss, jnp.zeros(3))
    >>> found.exploded, 0.01 < found.suggestion < 0.2
    (True, True)
    """
    check_transform(WHO, tx)
    if not callable(loss):
        raise wrong(WHO, "loss is no function", "a function of the parameters", loss)
    numbers = {"low": low, "high": high, "smoothing": smoothing, "stop": stop}
    given = {k: limit(WHO, k, x, number_dtype()) for k, x in numbers.items()}
    start = start_point(WHO, params)
    steps = whole_number(WHO, "steps", steps, 2, counted=True)
    seen = None if batches is None else arrays(WHO, "batches", _side_by_side(batches, steps))
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((given, start, seen))):
        raise ConfigError(WHO, "it runs by itself", expected="a call outside of jax.jit")
    if not 0 < low < high < float("inf"):
        raise ConfigError(WHO, "no range of rates", expected="0 < low < high", found=(low, high))
    if not smoothing < 1 or not stop > 1:
        problem = "smoothing is in [0, 1) and stop above 1"
        raise ConfigError(WHO, problem, found=f"smoothing={smoothing}, stop={stop}")
    count = _count(seen)
    rates = np.geomspace(float(low), float(high), steps)
    run = jax.jit(functools.partial(_swept, tx, loss, count, label))
    done = jax.device_get(run(start, seen, jnp.asarray(rates, number_dtype()), given))
    made = int(done.step)
    return RateSearch(rates[:made], done.losses[:made], done.smoothed[:made], bool(done.over))


def _side_by_side(batches: Any, most: int) -> Any:
    """Batches that come one by one as a tree whose first axis numbers them; others as they are."""
    one_by_one = isinstance(batches, list) and not any(map(_is_leaf, batches))
    if _is_leaf(batches) and isinstance(batches, Iterable) and not isinstance(batches, str | bytes):
        one_by_one = not hasattr(batches, "shape")
    if not one_by_one:
        return batches
    each = [arrays(WHO, f"batches[{i}]", x) for i, x in enumerate(itertools.islice(batches, most))]
    kinds = {str(jax.tree.map(jnp.shape, x)): None for x in each}
    if len(kinds) != 1:
        raise TreeError(
            WHO,
            "the batches differ in structure or shape" if each else "there are no batches",
            expected="trees of arrays of the same shapes",
            found=", ".join(kinds)[:200] or "none",
            fix="Leave out a last one that is smaller: drop_last=True in most loaders."
            if each
            else None,
        )
    return jax.tree.map(lambda *xs: jnp.stack(xs), *each)


def _is_leaf(x: Any) -> bool:
    return jax.tree_util.all_leaves([x])


def _count(batches: Any) -> int:
    layout = layout_of(WHO, batches)
    sizes = {
        name: x.shape[0] if x.shape else 0
        for name, x in zip(layout.names, jax.tree.leaves(batches), strict=True)
    }
    if batches is not None and (len({*sizes.values()}) != 1 or 0 in sizes.values()):
        raise TreeError(
            WHO,
            "batches have no first axis in common that numbers them",
            expected="arrays of shape (batches, ...)",
            found=", ".join(f"{k or 'the array'}: {n}" for k, n in sizes.items()) or "no leaves",
        )
    return next(iter(sizes.values()), 1)


def _swept(
    tx: Transform,
    loss: Callable[..., Any],
    count: int,
    label: str | None,
    params: Tree,
    batches: Any,
    rates: Array,
    limits: dict[str, Array],
) -> _Run:
    smoothing, stop = limits["smoothing"], limits["stop"]

    def value_of(p: Tree, step: Array) -> Array:
        seen = () if batches is None else (jax.tree.map(lambda x: x[step % count], batches),)
        value = as_array(WHO, "the loss", called(WHO, "loss", loss, p, *seen))
        number: Array = real_scalar(WHO, "loss", value).astype(number_dtype())
        return number

    def body(run: _Run) -> _Run:
        value, grads = jax.value_and_grad(value_of)(run.params, run.step)
        state = set_hyperparams(run.state, label=label, learning_rate=rates[run.step])
        grads = jax.tree.map(jnp.conj, grads)
        updates, state = tx.update(
            grads,
            state,
            run.params,
            value=value,
            grad=grads,
            value_fn=lambda p: value_of(p, run.step),
            key=jax.random.fold_in(jax.random.key(0), run.step),
        )
        mean = smoothing * run.mean + (1 - smoothing) * value
        smoothed = mean / debias(smoothing, (run.step + 1).astype(mean.dtype))
        over = ~jnp.isfinite(value) | ((run.best > 0) & (smoothed > stop * run.best))
        return _Run(
            apply_updates(run.params, updates),
            state,
            run.step + 1,
            mean,
            jnp.minimum(run.best, smoothed),
            over,
            run.losses.at[run.step].set(value),
            run.smoothed.at[run.step].set(smoothed),
        )

    nothing, none = jnp.zeros((), rates.dtype), jnp.zeros_like(rates)
    first = _Run(
        params,
        tx.init(params),
        jnp.int32(0),
        nothing,
        jnp.full_like(nothing, jnp.inf),
        jnp.zeros((), bool),
        none,
        none,
    )
    return while_loop(lambda run: ~run.over & (run.step < rates.size), body, first)
