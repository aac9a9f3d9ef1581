"""Looking at what passes a place in a chain, and keeping it where loggers find it."""

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
from jopt.numerics import debias, number_dtype

Measure = Callable[..., Any]
"""`measure(updates)`, or `measure(updates, params)`: one number."""

SPEC = Spec("monitor", (Hyper("decay", "[0, 1)", optional=True),), counts=True, ageless=True,
            steps=False)  # fmt: skip


class MonitorPart(TreePart):
    """Numbers of the updates that pass, each a slot of its own."""

    def __init__(self, measures: Mapping[str, Measure], decay: Value | None) -> None:
        super().__init__(SPEC, _untouched, None, None, {"decay": decay})
        self.measures = dict(measures)
        self.shared = tuple(Slot(name, init=jnp.nan, scope="group") for name in self.measures)
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
        d, t = numbers["decay"], numbers["t"]
        mean = old + (1 - d) / debias(d, t) * (x - old)
        # A mean that has met one infinity would never be a number again.
        return jnp.where(jnp.isnan(old), x, jnp.where(jnp.isfinite(x), mean, old))


def _untouched(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    return g, {}


@configured("jopt.")
def monitor(
    measures: Mapping[str, Measure] | None = None, *, decay: Value | None = None
) -> Transform:
    """Keep numbers of the updates that pass: a link that changes nothing.

    Before an optimizer it sees gradients, behind it steps. `jopt.metrics(state)` gives what it
    has kept, of the last step that was taken. Leaves that are frozen, or have no gradient, are
    `None` in what it sees, and count nowhere.

    **Arguments:**

    - `measures`: `{name: function}` of `f(updates)` or `f(updates, params)`, each giving one
      number. `None` is `{"norm": jopt.global_norm}`.
    - `decay`: keep running means instead, m ← m + (1 − d) / (1 − dᵗ)·(x − m), with d in
      [0, 1), a number or a schedule. What is not finite is left out of them.

    **State:** a number for each measure, NaN before the first step; the step count.

    **Raises:** `ConfigError` for measures that are no functions of a number each.

    >>> import jax.numpy as jnp, jopt
    >>> largest = {"largest": lambda updates: abs(updates["w"]).max()}
    >>> tx = jopt.chain(grads=jopt.monitor(), sgd=jopt.sgd(0.5), steps=jopt.monitor(largest))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> print(jopt.metrics(state)["grads/norm"], jopt.metrics(state)["steps/largest"])
    5.0 2.0
    """
    held = {"norm": global_norm} if measures is None else measures
    known = isinstance(held, Mapping) and all(
        isinstance(k, str) and k and k not in NODE_KEYS and callable(f) for k, f in held.items()
    )
    if not known:
        raise ConfigError(
            "monitor",
            "measures are functions by name",
            expected="{name: function of the updates}, no name one of "
            + ", ".join(sorted(NODE_KEYS)),
            found=repr(measures)[:100],
        )
    return Transform({SPEC.name: MonitorPart(held, decay)})
