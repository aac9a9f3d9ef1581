"""Leaving out steps whose loss or gradient stands far above those of the last ones."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, configured, is_one_of
from jopt.core import Hyper, Slot, Spec, Transform, Value, chain
from jopt.core.checks import check_count
from jopt.numerics import global_norm, safe_sqrt
from jopt.wrappers.judged import TALLY, JudgePart, tallied

MOST = 1 << 20  # steps whose numbers a state may hold


def _window(shape: Any, options: Any) -> tuple[int, ...]:
    return (options["window"],)


def _norms(on: Any) -> bool:
    return bool(on["watch"] != "value")


def _values(on: Any) -> bool:
    return bool(on["watch"] != "gradient")


SPEC = Spec(
    name="skip_spikes",
    hypers=(Hyper("deviations", "[0, inf)"),),
    slots=(
        Slot("norms", _window, scope="group", when=_norms, compress=False),
        Slot("values", _window, scope="group", when=_values, compress=False),
        Slot("taken", "scalar", scope="group", dtype="int32"),
        *TALLY,
    ),
    options={"window": None, "watch": None},
    extra=lambda on: ("value",) if _values(on) else (),
    steps=False,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `skip_spikes`."""
    seen = {}
    if h.watch != "value":
        seen["norms"] = global_norm(g)
    if h.watch != "gradient":
        seen["values"] = jnp.asarray(h.value)
    took = jnp.asarray(True)
    full = s.taken >= h.window
    for name, x in seen.items():
        recent = getattr(s, name)
        seen[name] = x = x.astype(recent.dtype)
        took &= jnp.isfinite(x) & (~full | (x <= _most(recent, h.deviations)))
    at = s.taken % h.window
    new = {}
    for name, x in seen.items():
        recent = getattr(s, name)
        new[name] = recent.at[at].set(jnp.where(took, x, recent[at]))
    # Not past what an int32 counts, and at the same place of the window.
    taken = jnp.where(s.taken >= 2 * h.window, s.taken - h.window, s.taken)
    return g, {**new, "taken": taken + took.astype(jnp.int32), **tallied(s, took)}


def _most(recent: Array, deviations: Array) -> Array:
    mean = jnp.mean(recent)
    deviation = safe_sqrt(jnp.mean(jnp.square(recent - mean)))
    rounding = 8 * jnp.finfo(recent.dtype).eps * jnp.abs(mean)  # of values that are all the same
    return mean + deviations.astype(recent.dtype) * deviation + rounding


@configured("jopt.")
def skip_spikes(
    tx: Any,
    *,
    window: int = 128,
    deviations: Value = 6.0,
    watch: Literal["gradient", "value", "both"] = "gradient",
) -> Transform:
    """Leave a step out if its loss or gradient stands far above those of the last n steps.

    With x the norm of all gradients, or the loss, and x₁ … xₙ those of the last n steps taken:

        no step if x > mean(x₁ … xₙ) + k·√(mean of (xᵢ − mean)²), or if x is not finite

    Parameters, moments, schedules and step counts are then what they were: the step did not
    happen, and its x is not among the next xᵢ. The first n steps are taken, if they are finite.

    **Arguments:**

    - `tx`: any transform; its clipping inside, so that x is the norm before it.
    - `window`: n ≥ 1.
    - `deviations`: k ≥ 0, a number or a schedule; 6 here.
    - `watch`: `"gradient"`, `"value"` (the loss, which `update` then needs as `value=`), or
      `"both"`: no step if either stands out.

    **State:** that of `tx`, and under `skip_spikes` the last norms or values, how many steps
    were `taken` (counted as far as the window needs), and left out, in `total` and
    `in_a_row` up to now. A run whose loss has come to lie higher for good leaves all steps out:
    watch `in_a_row`, and raise `deviations`, or begin this node anew.

    A metric (`value=`) given with a step that was left out is not lost: where the next step comes
    with none (a NaN), what is inside gets the mean of the finite ones left out before.

    **Raises:** `ConfigError` for numbers out of range, and for an `update` without the loss.

    Source: the rule of OLMo's `SkipStepOptimizer` and MaxText's `skip_step_on_spikes`, which
    take in the spikes as well.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.skip_spikes(jopt.sgd(1.0), window=2)
    >>> params = {"w": jnp.float32(0.0)}
    >>> state = tx.init(params)
    >>> for g in (1.0, 1.5, 50.0, 1.0):
    ...     params, state = jopt.step(tx, {"w": jnp.float32(g)}, state, params)
    >>> float(params["w"]), int(state["skip_spikes"]["total"]["default"])
    (-3.5, 1)
    """
    if not is_one_of(watch, "gradient", "value", "both"):
        raise ConfigError(
            "skip_spikes",
            "there is no such thing to watch",
            expected="'gradient', 'value' or 'both'",
            found=repr(watch)[:100],
        )
    window = check_count("skip_spikes", "window", window, 1)
    if window > MOST:
        raise ConfigError(
            "skip_spikes",
            "window is too long",
            expected=f"at most {MOST} steps",
            found=repr(window),
        )
    options = {"window": window, "watch": watch}
    part = JudgePart(SPEC, rule, None, options, {"deviations": deviations})
    return chain(Transform({"skip_spikes": part}), tx)
