"""Extra arguments that are trees or functions of the parameters, as a rule sees its leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.checks import check_gradient
from jopt.core.extras import TREES
from jopt.core.flow import Flow
from jopt.core.tree import match_leaves
from jopt.numerics import as_complex, is_complex


def leaves_seen(who: str, name: str, tree: Any, members: Sequence[int], flow: Flow) -> list[Any]:
    """These leaves of the tree of an extra argument, each fit for its parameter, or `None`."""
    given = match_leaves(who, TREES[name], flow.layout, tree)
    like = flow.updates if flow.params is None else flow.params
    return [check_gradient(who, flow.layout.names[i], given[i], like[i]) for i in members]


def function_seen(
    function: Callable[..., Any], members: Sequence[int], flow: Flow
) -> Callable[..., Array]:
    """A function of the parameters as one of these leaves.

    The user's takes the whole tree in its own dtypes; rules hold leaves in at least float32,
    complex ones as pairs. The other leaves stay as they are.
    """

    def of_leaves(seen: Sequence[Array], *rest: Any) -> Array:
        whole = list(flow.params or [])
        for i, x in zip(members, seen, strict=True):
            p = whole[i]
            whole[i] = (as_complex(x) if is_complex(p.dtype) else x).astype(p.dtype)
        return jnp.asarray(function(flow.tree(whole), *rest))

    return of_leaves
