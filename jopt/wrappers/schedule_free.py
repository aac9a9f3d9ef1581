"""Steps whose average is where a decaying learning rate would have led, with none."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Hyper, Slot, Spec, Transform, Value, chain, treewise
from jopt.core.vocabulary import RATE
from jopt.wrappers.averages import AHEAD, MIX

SPEC = Spec(
    name="schedule_free",
    hypers=(RATE, Hyper("b1", "(0, 1]"), Hyper("weight_lr_power", "[0, inf)")),
    slots=(
        Slot(AHEAD, init=lambda p: p, compress=False, torch="z"),
        Slot(MIX, "scalar", init="b1", scope="group"),
        Slot("weight_sum", "scalar", scope="group"),
        Slot("rate_max", "scalar", scope="group"),
    ),
    steps=False,
    needs_params=True,
)


def rule(u: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `schedule_free`. With x = z + (y − z) / β of the last step put in, x is not needed."""
    rate_max = jnp.maximum(s.rate_max, h.learning_rate.astype(s.rate_max.dtype))
    weight = rate_max ** h.weight_lr_power.astype(rate_max.dtype)
    weight_sum = s.weight_sum + weight
    share = jnp.where(weight_sum > 0, weight / jnp.where(weight_sum > 0, weight_sum, 1), 0)
    b1 = h.b1.astype(share.dtype)
    kept = 1 - share
    back, along = 1 - b1 / s.mix * kept, 1 - b1 * kept

    def one(u: Any, z: Any, y: Any) -> Any:
        return back.astype(y.dtype) * (z - y) + along.astype(y.dtype) * u

    moved = [one(*each) for each in zip(u, s.z, p, strict=True)]
    ahead = [z + x for z, x in zip(s.z, u, strict=True)]
    numbers = {MIX: b1, "weight_sum": weight_sum, "rate_max": rate_max}
    return moved, {AHEAD: ahead, **numbers}


@configured("jopt.")
def schedule_free(
    tx: Any, learning_rate: Value, b1: Value = 0.9, weight_lr_power: Value = 2.0
) -> Transform:
    """Train without a decaying schedule: average the steps of `tx`, and take gradients in between.

    With y the parameters, at which the gradients are taken, u the update of `tx` for them, z
    where its updates lead, x the average, η the learning rate:

        w ← (largest η so far)ᵖ
        c ← w / (sum of all w)
        z ← z + u
        x ← (1 − c)·x + c·z
        y ← (1 − β)·z + β·x

    All three begin as the parameters. Evaluate with x: `jopt.eval_params(state, params)`. In the
    place of Adam's momentum stands β, so that `tx` should have none: `sgd(η)`, and for AdamW
    `rmsprop(η, 0.999, bias_correction=True, decoupled=True)`, which keeps no slot for it.
    `tx` sees y as the parameters; its weight decay acts there. A step that `tx` does not take
    is none here.

    **Arguments:**

    - `tx`: any transform whose updates are the steps.
    - `learning_rate`: η ≥ 0 of `tx`, a number or a schedule with warm-up: it only weighs the
      average, so a multiple of it does as well. `jopt.set_hyperparams` without a label changes
      both.
    - `b1`: β in (0, 1], 0.9 in the paper; 0.95 to 0.98 for long runs.
    - `weight_lr_power`: p ≥ 0, 2 in the authors' code, where a rate of 0 has no weight.

    **State:** that of `tx`, and under `schedule_free` the tree `z`, in at least float32, and of
    all leaves together `weight_sum`, `rate_max` and `mix`, the β that made the parameters: an
    edit of b1 leaves x where it is. x follows from y and z, and is not stored. Leaves that
    `tx` freezes have none. A leaf that joins begins as its own average, with the weight of the
    run so far.

    **Raises:** `ConfigError` for numbers out of range.

    Parameters narrower than float32 round y, and with it x, by 1 / β times as much: put
    `jopt.master_weights` around. Batch-norm statistics have to be computed anew for x.

    Source: Defazio et al., 2024, "The road less scheduled", equations 1 to 3; weights as in the
    authors' code, `schedulefree`. optax stores the same; its `schedule_free_adamw` begins warm-up
    one step further.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.schedule_free(jopt.sgd(1.0), 1.0)
    >>> params = {"w": jnp.float32(4.0)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     params, state = jopt.step(tx, {"w": jnp.float32(1.0)}, state, params)
    >>> float(state["schedule_free"]["z"]["w"])
    1.0
    >>> round(float(jopt.eval_params(state, params)["w"]), 5)  # the mean of 3, 2 and 1
    2.0
    """
    average = treewise(
        SPEC, rule, learning_rate=learning_rate, b1=b1, weight_lr_power=weight_lr_power
    )
    return chain(tx, average)
