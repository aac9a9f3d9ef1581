"""`optimizer`: a signature and a docstring become a factory.

The call is bound to the signature; the spec says which arguments are numbers and which are
choices, and everything else is what all optimizers take. So a factory says each of its arguments
once, where a reader of it looks.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

from jopt.base import factory, settled
from jopt.core.doors import leafwise
from jopt.core.groups import SHARED
from jopt.core.rules import check_rule
from jopt.core.spec import Spec
from jopt.core.transform import Transform

P = ParamSpec("P")


def optimizer(
    spec: Spec,
    rule: Callable[..., Any],
    *,
    door: Callable[..., Transform] = leafwise,
    prefix: str = "jopt.",
    also: Mapping[str, str] | None = None,
    **lifted: Any,
) -> Callable[[Callable[P, Mapping[str, Any] | None]], Callable[P, Transform]]:
    """Decorate the signature of an optimizer: what it returns is the rule, lifted with the call.

    The function's body holds the checks that its numbers and choices need together; each alone is
    checked by the spec. It may return a dict of arguments to take the place of those given.

    **Arguments:**

    - `spec`, `rule`: see `jopt.leafwise`.
    - `door`: what lifts the rule: `jopt.leafwise`, `matrixwise`, `rowwise` or `treewise`.
    - `prefix`: where users find the factory, `"mylib."`.
    - `also`: arguments of the signature that are other names of numbers, `{"key": "seed"}`: one
      that is not `None` is the number.
    - `**lifted`: what else the door takes, `prepare=` and for matrices `batch=`.

    **Raises:** `ConfigError` if it is no spec or rule.

    >>> import jax.numpy as jnp, jopt
    >>> from typing import Unpack
    >>> SPEC = jopt.Spec(
    ...     "sign_descent", (jopt.Hyper("learning_rate", "[0, inf)"),), gives="direction"
    ... )
    >>> @jopt.optimizer(SPEC, lambda g, s, p, h: (jnp.sign(g), {}), prefix="mylib.")
    ... def sign_descent(
    ...     learning_rate: jopt.Value = 1e-3, **common: Unpack[jopt.Steps]
    ... ) -> None:
    ...     "p ← p − η·sign(g)."
    >>> tx, params = sign_descent(0.5), {"w": jnp.float32(1.0)}
    >>> tx
    mylib.sign_descent(learning_rate=0.5)
    >>> tx.update({"w": jnp.float32(-3.0)}, tx.init(params), params)[0]
    {'w': Array(0.5, dtype=float32)}
    """
    check_rule(spec, rule, lifted.get("prepare"), None, door=door)

    def decorate(function: Callable[P, Mapping[str, Any] | None]) -> Callable[P, Transform]:
        @functools.cache  # made at the first call: a program imports many factories, and calls few
        def unsaid() -> dict[str, Any]:
            own = inspect.signature(function).parameters.values()
            return {p.name: p.default for p in own if p.default is not p.empty}

        def make(written: inspect.BoundArguments) -> Transform:
            given = {**unsaid(), **written.arguments}
            given |= given.pop(rest, {})
            for name, number in (also or {}).items():
                if (value := given.pop(name, None)) is not None:
                    given[number] = value
            given |= settled(function(*written.args, **written.kwargs) or {})
            options = {k: given.pop(k) for k in spec.options if k in given and k not in SHARED}
            return lift(spec, rule, options=options, **lifted, **given)

        made = factory(function, make, prefix, spec.torch_names)
        bound: inspect.Signature = made.__signature__  # type: ignore[attr-defined]
        takes = bound.parameters.values()
        rest = next((p.name for p in takes if p.kind is p.VAR_KEYWORD), "")
        # The door need not bind again what is bound, unless something came by no name.
        lift = door if rest else inspect.unwrap(door)
        shown = bound.replace(return_annotation=Transform)
        made.__signature__ = shown  # type: ignore[attr-defined]
        return made

    return decorate
