"""What the tests know about one optimizer; `catalog.py` lists them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optax

import jopt


@dataclass(frozen=True)
class Entry:
    """What the tests need to know about one optimizer.

    `settings` are jopt arguments that switch much of it on, for the laws. `torch` lists torch
    keyword arguments to run against torch itself. `runs` lists jopt arguments to run against
    the paper's loop in `tests/oracles/papers.py`, and against what `optax` makes of all arguments,
    where optax follows the paper. `tol64` and `tol32` bound the distance to
    torch after 100 steps, relative to each leaf's largest value.
    """

    factory: Callable[..., jopt.Transform]
    settings: dict[str, Any] = field(default_factory=dict)
    torch: tuple[dict[str, Any], ...] = ()
    runs: tuple[dict[str, Any], ...] = ()
    optax: Callable[..., optax.GradientTransformation] | None = None
    tol64: float = 1e-12
    tol32: float = 3e-6
    complex: bool = True
    torch_complex: bool = True  # torch's class takes complex parameters too
    ndims: tuple[int, ...] = (0, 1, 2, 3)  # the ranks of parameter it takes
    still_on_zero_gradient: bool = True  # with no weight decay, a zero gradient moves nothing
    begins_at_once: bool = True  # its first step moves; else it only looks at the gradient
    separable: bool = True  # a leaf's steps do not depend on the other leaves
    inner_products: tuple[str, ...] = ()  # slots with ⟨g, p⟩ in them, rounded as its terms
    nu_is_mean_square: bool = False  # its `nu` is the running mean of g², with b2
    quiet: dict[str, Any] = field(default_factory=dict)  # numbers with which it draws nothing
    reverse_mode: bool = True  # jax.grad goes through its update; else only jax.jvp (inner loops)
    compresses: bool = True  # it takes `state_dtype`
    skips: bool = True  # it takes `skips`

    @property
    def name(self) -> str:
        return self.factory.__name__

    def skipping(self, skips: str | bool, **overrides: Any) -> jopt.Transform:
        """`make`, with leaves that may have no gradient, where that has to be said."""
        common = {"skips": skips} if self.skips else {}
        return self.make(**common, **overrides)

    def make(self, **overrides: Any) -> jopt.Transform:
        return self.factory(**{**self.settings, **overrides})
