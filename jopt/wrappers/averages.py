"""Averages of the parameters along the run, kept beside the optimizer that moves them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Groups, Hyper, Slot, Spec, Transform, Value, chain, leafwise
from jopt.core.checks import check_count

AVERAGE = "average"  # a slot that `eval_params` looks for
AHEAD, MIX = "z", "mix"  # two more, of which an average follows: see `schedule_free`
ANCHOR, ASCENDED = "anchor", "ascended"  # where parameters are from, if they are away: see `sam`

EMA = Spec(
    name="ema",
    hypers=(Hyper("decay", "[0, 1]"),),
    slots=(Slot(AVERAGE, init=lambda p: p),),
    counts=True,
    steps=False,
    needs_params=True,
)
SWA = Spec(
    name="swa",
    slots=(Slot(AVERAGE, init=lambda p: p),),
    options={"start": None, "every": None},
    counts=True,
    steps=False,
    needs_params=True,
)


def rule(u: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """a ← p + u where h.weight is 1, else a + h.weight·(p + u − a)."""
    p_new = p + u
    a = s.average + h.weight * (p_new - s.average)
    return u, {AVERAGE: jnp.where(h.weight == 1, p_new, a)}


def ema_weight(h: Any) -> dict[str, Any]:
    """1 at the first step, then 1 − decay."""
    return {"weight": jnp.where(h.t == 1, 1.0, 1 - h.decay).astype(h.t.dtype)}


def swa_weight(h: Any) -> dict[str, Any]:
    """1 up to the first step averaged, then 1 / (n + 1) at every one, 0 between."""
    since = h.t - h.start - 1
    n = jnp.floor(since / h.every)  # how many were averaged before this step, if this one is
    taken = since - n * h.every == 0
    weight = jnp.where(since <= 0, 1.0, jnp.where(taken, 1 / (n + 1), 0.0))
    return {"weight": weight.astype(h.t.dtype)}


@configured("jopt.")
def ema(tx: Any, *, decay: Value = 0.999, groups: Groups = None) -> Transform:
    """Follow an exponential moving average of the parameters that `tx` moves.

    With p the parameters after each step:

        a ← p at the first step, then a + (1 − d)·(p − a)

    as torch's `swa_utils.AveragedModel` with `get_ema_multi_avg_fn(d)` updated at every step.
    The updates pass unchanged. `jopt.eval_params(state, params)` gives a. A step that `tx` does
    not take, between those of `accumulate` or left out by `skip_nonfinite`, is none here.

    **Arguments:**

    - `tx`: any transform whose updates are the steps, optimizers and chains alike.
    - `decay`: d in [0, 1], a number or a schedule; 0.999 is torch's.
    - `groups`: other decays for some leaves, or no average at all for those of a group that is
      frozen here: `{"base": jopt.group("^base/", freeze=True)}`. They move as before.

    **State:** that of `tx`, and under `ema` the `average`, like the parameters, in at least
    float32: for bfloat16 parameters it averages what was meant, before rounding. Leaves that
    `tx` freezes have none.

    **Raises:** `ConfigError` for a number out of range, and for a `tx` in which some routes take
    steps at which others rest: put `accumulate` around `jopt.route`, or the average inside.

    Source: Polyak and Juditsky, 1992; torch for the first step.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.ema(jopt.sgd(1.0), decay=0.5)
    >>> params = {"w": jnp.float32(4.0)}
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update({"w": jnp.float32(1.0)}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> float(params["w"]), float(jopt.eval_params(state, params)["w"])
    (2.0, 2.5)
    """
    return chain(tx, leafwise(EMA, rule, prepare=ema_weight, decay=decay, groups=groups))


@configured("jopt.")
def swa(tx: Any, *, start: int = 0, every: int = 1, groups: Groups = None) -> Transform:
    """Follow the plain average of the parameters that `tx` moves, from a step on.

    With p the parameters after each step, t the step from 1 and n the number averaged so far:

        a ← p up to step start + 1; then, every `every` steps, a + (p − a) / (n + 1)

    as torch's `swa_utils.AveragedModel` with `get_swa_multi_avg_fn()`, updated after steps
    start + 1, start + 1 + every, and so on. The updates pass unchanged. Drive the learning rate
    with `jopt.schedules`; `jopt.eval_params(state, params)` gives a. Before `start`, a is p.

    **Arguments:**

    - `tx`: any transform whose updates are the steps.
    - `start`: how many steps pass before the first one averaged, ≥ 0.
    - `every`: steps between two averaged ones, ≥ 1; the length of an epoch, as in the paper.
    - `groups`: as for `jopt.ema`: a frozen group is not averaged.

    **State:** that of `tx`, and under `swa` the `average`, like the parameters, in at least
    float32, and the step count: of steps that `tx` took. Leaves that `tx` freezes have none.

    **Raises:** `ConfigError` for numbers of steps that are none.

    Source: Izmailov et al., 2018, "Averaging weights leads to wider optima and better
    generalization", algorithm 1. Batch-norm statistics have to be computed anew for a.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.swa(jopt.sgd(1.0), start=1)
    >>> params = {"w": jnp.float32(4.0)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     updates, state = tx.update({"w": jnp.float32(1.0)}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> float(jopt.eval_params(state, params)["w"])  # of 2 and 1
    1.5
    """
    options = {
        "start": check_count("swa", "start", start, 0),
        "every": check_count("swa", "every", every, 1),
    }
    return chain(tx, leafwise(SWA, rule, prepare=swa_weight, options=options, groups=groups))
