"""What a part checks before it touches anything: fit parameters, and its own state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from jopt.base import StateError, TreeError
from jopt.core.spec import Spec
from jopt.core.tree import Layout
from jopt.numerics import is_complex

EXTEND = "For added or unfrozen leaves: state = jopt.extend(tx, state, params)."


def check_params(spec: Spec, layout: Layout, params: Sequence[Any], live: Iterable[int]) -> None:
    """Raise `TreeError` for a parameter that this optimizer cannot move."""
    for i in live if spec.steps else ():
        dtype = params[i].dtype
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TreeError(
                spec.name,
                "a parameter cannot be optimized",
                path=layout.names[i],
                expected="a floating or complex dtype",
                found=dtype,
                fix="Keep it out, or freeze it with jopt.group(..., freeze=True).",
            )
        if is_complex(dtype) and spec.complex == "no":
            raise TreeError(
                spec.name,
                "this optimizer has no rule for complex parameters",
                path=layout.names[i],
                expected="a real dtype",
                found=dtype,
            )


def check_node(who: str, node: dict[str, Any], expected: set[str]) -> None:
    """Raise `StateError` unless a node has the entries of this configuration."""
    found = set(node) - {"hyperparams", "schedules", "leaf_count"}
    if expected != found:
        raise StateError(
            who,
            "this state was made by another configuration",
            expected=", ".join(sorted(expected)) or "no slots",
            found=", ".join(sorted(found)) or "no slots",
        )
