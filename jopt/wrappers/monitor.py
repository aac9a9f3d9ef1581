"""Looking at what a transform does, and keeping it where loggers find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, configured, number_of, takes
from jopt.core import Hyper, Slot, Spec, Transform, Value, global_norm
from jopt.core.doors import TreePart
from jopt.core.leaf import Leaf, Outcome
from jopt.core.spec import NODE_KEYS
from jopt.core.transform import Flow
from jopt.numerics import cast, debias, number_dtype
from jopt.wrappers.watched import WatchedPart

Measure = Callable[..., Any]
"""`measure(updates)`, or `measure(updates, params)`: one number."""

SPEC = Spec("monitor", (Hyper("decay", "[0, 1)", optional=True),), counts=True, ageless=True,
            steps=False)  # fmt: skip


class MonitorPart(TreePart):
    """Numbers of the updates that pass, each a slot of its own."""

    def __init__(self, measures: Mapping[str, Measure], decay: Value | None) -> None:
        super().__init__(SPEC, _untouched, None, None, {"decay": decay})
        self.measures: dict[str, Measure] = dict(measures)
        self.shared: tuple[Slot, ...] = tuple(
            Slot(name, init=jnp.nan, scope="group") for name in self.measures
        )
        self.remembers = True

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """The updates as they are; the numbers of them."""
        numbers = leaves[0].numbers.read()
        kept = {
            name: self._kept(shared[name], self._measured(name, flow), numbers)
            for name in self.measures
        }
        return [Outcome(leaf.g) for leaf in leaves], kept

    def _measured(self, name: str, flow: Flow) -> Array:
        measure, trees = self.measures[name], [flow.tree(flow.updates)]
        if takes(measure, 2):
            trees.append(None if flow.params is None else flow.tree(flow.params))
        number = number_of(SPEC.name, f"measure {name!r}", measure, *trees, dtype=number_dtype())
        if number.shape != ():
            raise ConfigError(
                SPEC.name,
                f"measure {name!r} gives more than one number",
                expected="a number, an array of shape ()",
                found=f"shape {number.shape}",
            )
        return number

    def _kept(self, old: Array, x: Array, numbers: Mapping[str, Any]) -> Array:
        if "decay" not in numbers:
            return x
        d, t, old = numbers["decay"], numbers["t"], cast(old, x.dtype)
        mean = old + (1 - d) / debias(d, t) * (x - old)
        # A mean that has met one infinity would never be a number again.
        return jnp.where(jnp.isnan(old), x, jnp.where(jnp.isfinite(x), mean, old))


def _untouched(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    return g, {}


@configured("jopt.")
def monitor(measures: Any = None, *, decay: Value | None = None) -> Transform:
    """Watch a transform: norms of gradients, updates and parameters, for `jopt.metrics(state)`.

    Around a transform, `monitor(tx)` changes nothing of what it does, and keeps for all leaves
    together, and for those of each group and of each of several optimizers:

        gradient_norm  ‖g‖ as it came in         update_norm   ‖u‖ of the step
        param_norm     ‖p‖ before the step       update_ratio  ‖u‖ / ‖p‖

    `jopt.metrics` has them as `monitor/update_norm` and `monitor/no_decay/update_norm`, beside
    learning rates, step counts, steps left out and loss scales. Leaves in no group, where there
    are groups, are `ungrouped`; frozen leaves count nowhere. All but ‖g‖ are of the last step that
    was taken: put a monitor inside of `accumulate` to see the gradients of whole rounds.

    Given functions in place of a transform it is a link of a chain, which keeps numbers of the
    updates that pass: before an optimizer it sees gradients, behind it steps. Leaves that are
    frozen, or have no gradient, are `None` in what it sees.

    **Arguments:**

    - `measures`: the transform to watch; or, for a link, `{name: function}` of `f(updates)` or
      `f(updates, params)`, each giving one number. `None` is `{"norm": jopt.global_norm}`.
    - `decay`: of a link: keep running means instead, m ← m + (1 − d) / (1 − dᵗ)·(x − m), with d
      in [0, 1), a number or a schedule. What is not finite is left out of them.

    **State:** a number for each measure, NaN before the first step; of a link the step count, too.
    Around a transform, that of the transform is under `inner`.

    **Raises:** `ConfigError` for measures that are no functions of a number each, and for a `decay`
    beside a transform.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.monitor(jopt.sgd(0.5))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> found = jopt.metrics(state)
    >>> for name in ("gradient_norm", "update_norm", "param_norm", "update_ratio"):
    ...     print(name, found[f"monitor/{name}"])
    gradient_norm 5.0
    update_norm 2.5
    param_norm 5.0
    update_ratio 0.5
    >>> largest = {"largest": lambda updates: abs(updates["w"]).max()}
    >>> tx = jopt.chain(jopt.sgd(0.5), steps=jopt.monitor(largest))
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> print(jopt.metrics(state)["steps/largest"])
    2.0
    """
    if isinstance(measures, Transform) or callable(getattr(measures, "init", None)):
        watched = WatchedPart(SPEC.name, measures)
        if decay is not None:
            raise ConfigError(
                "monitor",
                "around a transform it keeps no running means",
                expected="decay=None",
                found=f"decay={decay!r}"[:100],
                fix="Put a link beside it: jopt.chain(jopt.monitor(tx), "
                "jopt.monitor({name: function}, decay=...)).",
            )
        return Transform({SPEC.name: watched})
    held = {"norm": global_norm} if measures is None else measures
    known = isinstance(held, Mapping) and all(
        isinstance(k, str) and k and k not in NODE_KEYS and callable(f) for k, f in held.items()
    )
    if not known:
        raise ConfigError(
            "monitor",
            "measures are functions by name",
            expected="a transform, or {name: function of the updates}, no name one of "
            + ", ".join(sorted(NODE_KEYS)),
            found=repr(measures)[:100],
        )
    return Transform({SPEC.name: MonitorPart(held, decay)})
