"""A jopt transform as a member of optax's own types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jopt.base import ConfigError
from jopt.core import Transform
from jopt.core.tree import Tree

if TYPE_CHECKING:
    import optax


@dataclass(frozen=True)
class Init:
    """`tx.init`; two of them are equal where the transforms are."""

    tx: Transform

    def __call__(self, params: Tree) -> Tree:
        """The state before the first step."""
        return self.tx.init(params)


@dataclass(frozen=True)
class Update:
    """`tx.update`, with the updates in the dtypes that the gradients came in."""

    tx: Transform

    def __call__(
        self, updates: Tree, state: Tree, params: Tree | None = None, **extra_args: Any
    ) -> tuple[Tree, Tree]:
        """One step; see `jopt.Transform.update`."""
        return self.tx.updated(updates, state, params, extra_args, narrow=True)


def wrap(tx: Transform) -> optax.GradientTransformationExtraArgs:
    """`tx` as an `optax.GradientTransformationExtraArgs`, for optax's own combinators.

    A jopt transform works in them as it is. Two things optax does only for its own type:

    - Type checkers take the result wherever they want an optax transformation: in
      `optax.chain`, `flax.nnx.Optimizer`, `TrainState.create`.
    - Extra arguments of `update` (`value=`, `grad=`, `value_fn=`, `key=`) come through
      `optax.chain`, `optax.MultiSteps` and the rest, which withhold them from other objects.

    And the updates have the gradients' dtypes, as those of optax have. jopt's steps for
    bfloat16 and float16 are float32, so that `apply_updates` rounds only once; but
    `optax.apply_if_finite` and `optax.conditionally_transform` choose between updates and
    gradients, and want one dtype.

    The state is the transform's own: `jopt.hyperparams`, `jopt.save` and the like take it.

    **Arguments:** `tx`: any jopt transform.

    **Raises:** `ConfigError` for anything else.

    >>> import jax, jax.numpy as jnp, jopt, optax
    >>> from jopt.interop.optax import wrap
    >>> tx = optax.chain(optax.clip(1.0), wrap(jopt.lbfgs(line_search="strong_wolfe")))
    >>> f = lambda w: jnp.sum((w - 0.25) ** 2)
    >>> w = jnp.zeros(2)
    >>> updates, state = tx.update(jax.grad(f)(w), tx.init(w), w, value_fn=f)
    >>> optax.apply_updates(w, updates)
    Array([0.25, 0.25], dtype=float32)
    """
    if not isinstance(tx, Transform):
        raise ConfigError(
            "wrap",
            "this is no jopt transform",
            expected="a jopt.Transform",
            found=repr(tx)[:100],
            fix="optax's own need no wrapping.",
        )
    import optax

    return optax.GradientTransformationExtraArgs(Init(tx), Update(tx))
