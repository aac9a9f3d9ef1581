"""A transform at some updates only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from jopt.base import NO_ARRAY, ConfigError, called, configured, is_one_of
from jopt.core import Transform
from jopt.core.counts import ticked
from jopt.core.kept_metrics import none_kept
from jopt.core.row import only_if, only_where
from jopt.core.transform import Flow, Leaves, Node, like_given
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart
from jopt.wrappers.judged import left, made_up_for

Condition = Callable[..., Any]
"""`condition(step, **extra)`: whether to step."""


class ConditionalPart(WrapperPart):
    """The wrapped parts, where a function of the update's number and extra arguments says so."""

    def __init__(self, name: str, tx: Any, condition: Condition, otherwise: str) -> None:
        super().__init__(name, tx)
        self.condition = condition
        self.otherwise = otherwise
        self.rests: bool = otherwise == "rest" or self.rests

    @property
    def choices(self) -> Mapping[str, Any]:
        """What happens at other updates."""
        return {"otherwise": self.otherwise}

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """The number of updates, and the metrics of those without a step."""
        return {"count": jnp.int32(0), **none_kept(self.metrics)}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """The wrapped update, or what there is otherwise."""
        self.check_own(node, "count")
        kept, extra = node.get("metrics", {}), flow.extra
        holds = _answer(self._asked(node["count"], extra))
        given = replace(flow, extra=made_up_for(kept, extra))
        after, inner = self.inner_update(given, node["inner"])
        new = {"count": ticked(node["count"]), "inner": only_if(holds, inner, node["inner"])}
        if kept:
            new["metrics"] = left(holds, kept, extra)
        if self.otherwise == "rest":
            updates = [only_where(holds, u) for u in after.updates]
            took = holds if after.took is None else holds & after.took
            return replace(after, updates=updates, took=took), new
        if after.stepped and not flow.stepped:
            raise ConfigError(
                self.name,
                "what passes otherwise is a gradient, and no step",
                expected="otherwise='rest' around an optimizer",
                found="otherwise='pass'",
            )
        passed = like_given(flow.updates, after.updates)
        updates = [
            u if u is None else jnp.where(holds, u, g)
            for u, g in zip(after.updates, passed, strict=True)
        ]
        inside = None if after.took is None else after.took | ~holds
        return replace(after, updates=updates, took=inside), new

    def _asked(self, step: Array, extra: Mapping[str, Any]) -> Any:
        return called(self.name, "condition", self.condition, step, **extra)


def _answer(holds: Any) -> Array:
    try:
        found = jnp.asarray(holds)
    except NO_ARRAY:
        found = jnp.zeros(())
    if found.shape != () or found.dtype != bool:
        raise ConfigError(
            "conditionally",
            "the condition gives no truth value",
            expected="a bool, or an array of one",
            found=f"{found.dtype}{list(found.shape)}",
        )
    return found


@configured("jopt.")
def conditionally(
    tx: Any, condition: Condition, *, otherwise: Literal["rest", "pass"] = "rest"
) -> Transform:
    """Apply `tx` only at updates where a condition holds.

    **Arguments:**

    - `tx`: any transform.
    - `condition`: `condition(step, **extra)` → a bool, traced or not, from the number of the
      update, from 0, and all extra arguments of `update`. At the top of a module it pickles.
    - `otherwise`: `"rest"`: there is no step; state, schedules and counts of `tx` and of what
      stands behind stay as they are. `"pass"`: the gradients pass as they came and `tx`, which is
      no optimizer then, rests alone.

    **State:** `{"conditionally": {"count": ..., "inner": {...}}}`, the number of updates. With
    `"rest"`, metrics of updates without a step are kept as by `jopt.skip_nonfinite`.

    **Raises:** `ConfigError` for `"pass"` around an optimizer, and for a condition that gives no
    truth value.

    `"rest"` is optax's `conditionally_mask`, `"pass"` its `conditionally_transform`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.conditionally(jopt.sgd(1.0), lambda step, **extra: step % 2 == 0)
    >>> params = {"w": jnp.float32(0.0)}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     params, state = jopt.step(tx, {"w": jnp.float32(1.0)}, state, params)
    ...     print(params["w"])
    -1.0
    -1.0
    -2.0
    """
    if not callable(condition) or isinstance(condition, type):
        raise ConfigError(
            "conditionally",
            "this is no condition",
            expected="a function of the step and the extra arguments",
            found=repr(condition)[:100],
        )
    if not is_one_of(otherwise, "rest", "pass"):
        raise ConfigError(
            "conditionally",
            "there is no such thing to do otherwise",
            expected="'rest' or 'pass'",
            found=repr(otherwise)[:100],
        )
    part = ConditionalPart("conditionally", tx, condition, otherwise)
    return Transform({"conditionally": part})
