"""The extra arguments of `update` by kind: what a part that sees some leaves only gets of each.

Some are trees like the parameters, of which a part gets its own leaves. Some are functions of the
parameters, and of whatever else: they become functions of its leaves. The others are passed on,
and those that are numbers are metrics, which wrappers keep where there is no step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TREES: Mapping[str, str] = {
    "grad": "the gradients of grad=",
    "hessian": "the second derivatives of hessian=",
    "previous_grad": "the gradients of previous_grad=",
}
"""Trees like the parameters, and what errors call their leaves."""

FUNCTIONS = frozenset({"value_fn", "sampled_fn"})
"""Functions whose first argument is the tree of the parameters."""

NO_NUMBERS = frozenset({*TREES, *FUNCTIONS, "key", "flush"})
"""The extra arguments that are no metrics."""

ALSO = {"obj_fn": "value_fn"}
"""What optax calls some of them, too."""


def renamed(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same under the names that parts know."""
    known = {ALSO[k]: v for k, v in extra.items() if k in ALSO and extra.get(ALSO[k]) is None}
    return {**extra, **known} if known else extra
