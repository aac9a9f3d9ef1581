"""Polyak's step size: as far as the loss is from its minimum."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of
from jopt.core import Hyper, Spec, Steps, Value, optimizer, treewise
from jopt.core.vocabulary import EPS, RATE
from jopt.numerics import Norm, cast, together

SPEC = Spec(
    name="polyak_sgd",
    hypers=(Hyper("max_learning_rate", "[0, inf)"), RATE, Hyper("f_min"), EPS),
    options={"variant": None},
    extra=("value",),
    gives="direction",
    params_by=(),
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `polyak_sgd`."""
    ((factor, norm),) = together(Norm(g), bare=True)
    none = norm == 0
    norm = jnp.where(none, 1, norm)
    length = norm / factor
    gap = h.value - h.f_min
    gap = jnp.maximum(gap, 0) if h.variant == "sps+" else gap
    # How far to go, along g / ‖g‖: ‖g‖² may be out of range where this is not.
    far = jnp.minimum(gap / (length + h.eps / length), h.max_learning_rate * length)
    share = jnp.where(none, 0, far / norm)
    return [cast(share, x.dtype) * (cast(factor, x.dtype) * x) for x in g], {}


@optimizer(SPEC, rule, door=treewise)
def polyak_sgd(
    max_learning_rate: Value = 1.0,
    *,
    learning_rate: Value = 1.0,
    f_min: Value = 0.0,
    eps: Value = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
    **common: Unpack[Steps],
) -> None:
    """SGD with Polyak's step size, which the loss gives: `update(..., value=loss)`.

    With f the loss, f* the least that it can be, and all parameters as one vector:

        γ ← min((f − f*) / (‖g‖² + ε), γ_max)
        p ← p − η·γ·g

    **Arguments** (defaults are optax's):

    - `max_learning_rate`: γ_max ≥ 0.
    - `learning_rate`: η ≥ 0, a number or a schedule: the part of γ to take. It is optax's
      `scaling`, which there is in ‖g‖, too, so that a smaller one makes longer steps.
    - `f_min`: f*, any number; 0 for models that can fit all data. One that is too large leads
      away from the minimum, or stops before it.
    - `eps`: ε ≥ 0.
    - `variant`: `"sps"`, or `"sps+"`, which takes f − f* for 0 where it is negative and so never
      goes up.
    - `**common`: `maximize`, `groups`, `state_dtype` and what else every optimizer takes, see
      `jopt.Steps`.

      Each group has a γ of its own. With `maximize`, `value` is −f.

    **State:** none.

    **Raises:** `ConfigError` for a number out of range, or another variant.

    Source: Loizou, Vaswani, Laradji and Lacoste-Julien, 2021, equation 3 with c = 1; Garrigos,
    Gower and Schaipp, 2023, for "sps+". ‖g‖ is right wherever the numbers are, also where its
    square is out of range; optax takes no step where ‖g‖² + ε is below 2·10⁻¹⁶.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.polyak_sgd(10.0)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": 2 * params["w"]}, tx.init(params), params, value=1.0)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.5
    """
    if not is_one_of(variant, "sps", "sps+"):
        raise ConfigError(
            "polyak_sgd",
            "there is no such variant",
            expected="'sps' or 'sps+'",
            found=repr(variant)[:100],
        )
