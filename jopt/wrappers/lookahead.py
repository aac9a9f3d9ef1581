"""Slow weights that follow the fast ones every few steps, and where the fast ones go on from."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Groups, Hyper, Slot, Spec, Transform, Value, chain, leafwise
from jopt.core.chain import unused_label
from jopt.core.checks import check_count
from jopt.core.restart import anew
from jopt.core.row import only_if
from jopt.core.transform import Flow, Leaves, Node, Part
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart
from jopt.wrappers.averages import AVERAGE

SPEC = Spec(
    name="lookahead",
    hypers=(
        Hyper("slow_step_size", "[0, inf)"),
        Hyper("momentum", "[0, 1)", optional="zero"),
    ),
    slots=(
        Slot(AVERAGE, init=lambda p: p, compress=False),
        Slot("velocity", when=lambda on: on["momentum"]),
    ),
    options={"sync_period": None, "nesterov": None},
    counts=True,
    steps=False,
    needs_params=True,
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """1 at every step that ends a period, else 0."""
    ends = jnp.mod(h.t, h.sync_period) == 0
    return {"ends": ends.astype(h.t.dtype)}


def rule(u: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `lookahead`."""
    ends, slow = h.ends == 1, s.average
    ahead = p + u - slow
    kept = {}
    if h.momentum is not None:
        velocity = h.momentum * s.velocity + ahead
        ahead = ahead + h.momentum * velocity if h.nesterov else velocity
        kept["velocity"] = jnp.where(ends, velocity, s.velocity)
    reached = slow + h.slow_step_size * ahead
    return jnp.where(ends, reached - p, u), {AVERAGE: jnp.where(ends, reached, slow), **kept}


class AnewPart(WrapperPart):
    """The wrapped parts with the rule behind them; where a period ends, they begin anew."""

    keeps = False

    def __init__(self, name: str, tx: Any, slow: Part, period: int) -> None:
        super().__init__(name, tx)
        self.period = period
        self.slow: str = unused_label(name, self.inner)
        self.inner: dict[str, Part] = {**self.inner, self.slow: slow}

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """Nothing: the rule has a node of its own."""
        return {}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """One step of all."""
        self.check_own(node)
        after, inner = self.inner_update(flow, node["inner"])
        before, count = node["inner"][self.slow]["count"], inner[self.slow]["count"]
        ends = (count != before) & (jnp.mod(count, self.period) == 0)
        reached = flow.plus(after.updates, _plus)
        for label, part in self.inner.items():
            if label != self.slow:
                fresh = anew(part, part.init(flow.layout, reached), inner[label])
                inner[label] = only_if(ends, fresh, inner[label])
        return after, {"inner": inner}


def _plus(name: str, p: Any, u: Any) -> Any:
    return p if u is None else (p.astype(u.dtype) + u).astype(p.dtype)


@configured("jopt.")
def lookahead(
    tx: Any,
    *,
    sync_period: int = 6,
    slow_step_size: Value = 0.5,
    momentum: Value = False,
    nesterov: bool = True,
    reset_state: bool = False,
    groups: Groups = None,
) -> Transform:
    """Let `tx` run ahead for k steps, then go back to slow weights that have moved towards it.

    With p the parameters after a step, and s the slow weights, which begin as the parameters:

        s ← s + α·(p − s);  p ← s                     at every k-th step

    With `momentum` μ, p − s is the gradient of an outer loop, as in DiLoCo on one worker:

        v ← μ·v + (p − s)
        s ← s + α·((p − s) + μ·v);  p ← s             nesterov; else s ← s + α·v

    The parameters keep their tree; `jopt.eval_params(state, params)` gives s. Between the ends of
    periods the updates pass unchanged. A step that `tx` does not take is none here.

    **Arguments:**

    - `tx`: any transform whose updates are the steps; its state goes on from period to period.
    - `sync_period`: k ≥ 1; 6 here, 5 or 10 in the paper.
    - `slow_step_size`: α ≥ 0, a number or a schedule; 0.5 in the paper, 0.7 in DiLoCo.
    - `momentum`: μ in [0, 1); 0 for none, 0.9 in DiLoCo.
    - `nesterov`: whether the outer momentum is Nesterov's.
    - `reset_state`: whether `tx` begins anew where a period ends, its count and with that its
      schedules, too; its numbers stay, and the keys of random numbers.
    - `groups`: other numbers for some leaves; those of a group that is frozen here have no slow
      weights, and move as before.

    **State:** that of `tx`, and under `lookahead` the step count and the slow weights, `average`,
    in at least float32, with momentum the `velocity` too. Leaves that `tx` freezes have none. With
    `reset_state` both are under `inner` of one `lookahead`.

    **Raises:** `ConfigError` for numbers out of range.

    Source: Zhang et al., 2019, "Lookahead optimizer: k steps forward, 1 step back", algorithm 1;
    Douillard et al., 2023, "DiLoCo", algorithm 1. optax's gives the parameters a tree of two.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.lookahead(jopt.sgd(1.0), sync_period=2)
    >>> params = {"w": jnp.float32(4.0)}
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     params, state = jopt.step(tx, {"w": jnp.float32(1.0)}, state, params)
    ...     print(params["w"], jopt.eval_params(state, params)["w"])
    3.0 4.0
    3.0 3.0
    """
    period = check_count("lookahead", "sync_period", sync_period, 1)
    options = {"sync_period": period, "nesterov": nesterov}
    slow = leafwise(
        SPEC,
        rule,
        prepare=prepare,
        options=options,
        slow_step_size=slow_step_size,
        momentum=momentum,
        groups=groups,
    )
    if not reset_state:
        return chain(tx, slow)
    [part] = slow.parts.values()
    return Transform({"lookahead": AnewPart("lookahead", tx, part, period)})
