"""Lower the value when a metric no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import NO_ARRAY, CallError, ConfigError, Configured, StateError, plain
from jopt.numerics import number_dtype
from jopt.schedules.schedule import schedule
from jopt.schedules.shapes import check, check_choice, check_range

LONGEST = 2**31 - 1
"""As far as the counts of a memory go."""

CHOICES = {"mode": ("min", "max"), "threshold_mode": ("rel", "abs"), "nan": ("bad", "skip")}
FLOATS = ("init_value", "factor", "threshold", "min_value", "eps")
SETTINGS = {*CHOICES, *FLOATS, "patience", "cooldown", "every"}
MEMORY = {"value", "best", "bad", "cooldown", "reduce", "seen", "total"}


class Plateau(Configured):
    """What `plateau` returns: a schedule with a memory, which lives in the optimizer's state."""

    extra = ("value",)

    def __init__(self, **settings: Any) -> None:
        if settings.keys() != SETTINGS:
            raise CallError(
                "plateau",
                "a Plateau is what jopt.schedules.plateau makes",
                expected=", ".join(sorted(SETTINGS)),
                found=", ".join(sorted(settings)) or "none",
                fix="Call jopt.schedules.plateau: it has a default for each.",
            )
        s, inf = settings, float("inf")
        check("plateau", 0, patience=s["patience"], cooldown=s["cooldown"])
        check("plateau", every=s["every"])
        for name, choices in CHOICES.items():
            check_choice("plateau", name, s[name], choices)
        check_range("plateau", -inf, inf, init_value=s["init_value"], min_value=s["min_value"])
        check_range("plateau", 0.0, inf, threshold=s["threshold"], eps=s["eps"])
        check_range("plateau", 0.0, 1.0, factor=s["factor"])
        if not isinstance(s["factor"], jax.core.Tracer) and plain(s["factor"]) == 1:
            raise ConfigError(
                "plateau", "factor is out of range", expected="[0, 1)", found=s["factor"]
            )
        known = {k: float(s[k]) for k in FLOATS if not isinstance(s[k], jax.core.Tracer)}
        self._is = {**s, **known}

    def __call__(self, step: Any) -> Any:
        """Refused: what the number is depends on the metrics."""
        raise ConfigError(
            "plateau",
            "a plateau has no value at a step alone: it goes by the metrics that it is shown",
            expected="an optimizer of jopt, and update(..., value=metric)",
            found=f"a call with the step {step!r}"[:100],
            fix="As jopt.adam(plateau(...)); in a chain of optax's by jopt.interop.optax.wrap.",
        )

    def init(self) -> dict[str, Any]:
        """The memory before the first step; its `value` is the number of that step."""
        s, dtype = self._is, number_dtype()
        return {
            "value": jnp.asarray(s["init_value"], dtype),
            "best": jnp.asarray(jnp.inf if s["mode"] == "min" else -jnp.inf, dtype),
            "bad": jnp.int32(0),
            "cooldown": jnp.int32(0),
            "reduce": jnp.bool_(False),
            "seen": jnp.int32(0),
            "total": jnp.asarray(0, dtype),
        }

    def update(
        self, memory: dict[str, Any], step: Array | None = None, *, value: Any
    ) -> tuple[Array, dict[str, Any]]:
        """The number of a step at which the metric was `value`, and the memory after it."""
        s, dtype = self._is, number_dtype()
        check_memory(memory)
        metric = as_metric(value)
        if metric.shape != ():
            raise ConfigError(
                "plateau", "the metric is no number", expected="shape ()", found=metric.shape
            )
        now = jnp.where(memory["reduce"], self._lower(memory["value"]), memory["value"])

        news = ~jnp.isnan(metric) if s["nan"] == "skip" else jnp.bool_(True)
        total = jnp.where(news, memory["total"] + metric, memory["total"])
        seen = memory["seen"] + news.astype(jnp.int32)
        judged = seen >= min(s["every"], LONGEST)
        # As many as there are: a memory begun with a larger `every` may hold more.
        mean = total / jnp.maximum(seen, 1).astype(dtype)
        found, reduce = self._judge(memory, mean)
        return now, {
            "value": jnp.where(judged & reduce, self._lower(now), now),
            **{k: jnp.where(judged, x, memory[k]) for k, x in found.items()},
            "reduce": jnp.bool_(False),
            "seen": jnp.where(judged, 0, seen),
            "total": jnp.where(judged, 0, total),
        }

    def _lower(self, now: Array) -> Array:
        s = self._is
        lower = jnp.maximum(now * s["factor"], s["min_value"])
        return jnp.where(now - lower > s["eps"], lower, now)

    def _judge(self, memory: dict[str, Any], metric: Array) -> tuple[dict[str, Any], Array]:
        s, zero = self._is, jnp.int32(0)
        better = self._better(metric, memory["best"])
        best = jnp.where(better, metric, memory["best"])
        bad = jnp.where(better, zero, memory["bad"] + 1)
        resting = memory["cooldown"] > 0
        cooldown = memory["cooldown"] - resting.astype(jnp.int32)
        bad = jnp.where(resting, zero, bad)
        reduce = bad > min(s["patience"], LONGEST)
        return {
            "best": best,
            "bad": jnp.where(reduce, zero, bad),
            "cooldown": jnp.where(reduce, jnp.int32(min(s["cooldown"], LONGEST)), cooldown),
        }, reduce

    def _better(self, metric: Array, best: Array) -> Array:
        s, sign = self._is, -1.0 if self._is["mode"] == "min" else 1.0
        bound = best + sign * s["threshold"]
        if s["threshold_mode"] == "rel":
            # As a factor, to round as torch does; below zero the factor must turn around.
            outward = (best >= 0) | jnp.isinf(best)
            near, far = 1.0 + sign * s["threshold"], 1.0 - sign * s["threshold"]
            bound = best * jnp.where(outward, near, far)
        return jnp.asarray(metric < bound if s["mode"] == "min" else metric > bound)


def check_memory(memory: Any) -> None:
    """Raise `StateError` for what is no memory of a plateau: a state may come from anywhere."""
    if isinstance(memory, Mapping) and memory.keys() >= MEMORY:
        return
    raise StateError(
        "plateau",
        "this is no memory of a plateau",
        expected=f"a dict with {', '.join(sorted(MEMORY))}",
        found=f"one with {', '.join(map(str, memory))}"
        if isinstance(memory, Mapping)
        else repr(memory)[:100],
    )


def as_metric(value: Any) -> Array:
    """A metric as an array; Python's integers may be of any size."""
    try:
        whole = isinstance(value, int) and not isinstance(value, bool)
        metric = jnp.asarray(float(value) if whole else value)
        real = jnp.issubdtype(metric.dtype, jnp.floating) or jnp.issubdtype(
            metric.dtype, jnp.integer
        )
        if real:
            return metric.astype(number_dtype())
    except NO_ARRAY:
        pass  # told below
    raise ConfigError(
        "plateau", "the metric is no number", expected="a number", found=repr(value)[:100]
    )


@schedule
def plateau(
    init_value: float,
    *,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: int = 0,
    min_value: float = 0.0,
    eps: float = 1e-8,
    mode: Literal["min", "max"] = "min",
    every: int = 1,
    nan: Literal["bad", "skip"] = "bad",
) -> Plateau:
    """Multiply by `factor` after more than `patience` metrics that were no better.

    As torch's `ReduceLROnPlateau`. Every `update(grads, state, params, value=metric)` of an
    optimizer with such a schedule takes the metric of its step. With m the metric and b the best
    one so far:

        better:  m < b − θ·|b| (rel) or m < b − θ (abs), θ the threshold; mode max: m > b + ...
        bad ← 0 if better, else bad + 1;  b ← m if better
        in cooldown: cooldown ← cooldown − 1, bad ← 0
        if bad > patience: reduce, cooldown ← its length, bad ← 0

    To reduce is η ← max(η·factor, min_value), unless that changes η by `eps` or less.

    **When it acts:** as in torch, where `scheduler.step(metric)` follows `optimizer.step()`: the
    metric given at step k decides about the value at step k + 1. After an update the state's
    `value` is the number of the step to come, reduced already if that was due. An edit by
    `jopt.set_hyperparams` replaces it, and what comes later acts on the new one.

    **Once per epoch:** `every=n` takes the mean of n metrics as one, so that the training loss
    of every step may be given. For a validation metric take `nan="skip"`, and give it once, with
    NaN at all other steps: NaN then is no metric at all.

    **Arguments** (defaults are torch's):

    - `init_value`: the value to start from.
    - `factor` in [0, 1); `patience` ≥ 0; `cooldown` ≥ 0; `eps` ≥ 0; `min_value`.
    - `mode`: whether less (`"min"`) or more (`"max"`) is better.
    - `threshold` ≥ 0, `threshold_mode`: see above.
    - `every` ≥ 1: how many metrics make one (jopt's).
    - `nan`: `"bad"`: no better, as in torch; `"skip"`: no metric (jopt's).

    For metrics below zero torch's relative threshold has the wrong sign: there an equal metric is
    "better", and the rate never falls. Here |b| is right for both; above zero it is torch's.

    **State:** `value`, `best`, `bad`, `cooldown`, `reduce`, `seen`, `total`: scalars. `reduce` is
    a reduction that is due and not in `value` yet, which states of older files may have.

    **Raises:** `ConfigError` for an argument out of range; in `update` for a missing `value=`, or
    one that is no scalar.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sgd(plateau(1.0, factor=0.5, patience=0))
    >>> params, g = {"w": jnp.float32(0.0)}, {"w": jnp.float32(1.0)}
    >>> state, used = tx.init(params), []
    >>> for loss in (3.0, 2.0, 2.0, 1.0):
    ...     used.append(float(jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]))
    ...     _, state = tx.update(g, state, params, value=loss)
    >>> used
    [1.0, 1.0, 1.0, 0.5]
    """
    return Plateau(
        init_value=init_value,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_value=min_value,
        eps=eps,
        mode=mode,
        every=every,
        nan=nan,
    )
