"""SM3: Adagrad that keeps maxima along the axes in place of a sum for each entry."""

from __future__ import annotations

import functools
from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, apart, optimizer
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import Ratio, lerp, safe_sqrt

AXES = 4
"""How many axes have maxima of their own, the last of them with all that stand before it."""


def _cover(k: int) -> Slot:
    """The maxima along the k-th axis from the last."""

    def shape(of: tuple[int, ...], _: Any) -> tuple[int, ...]:
        last = len(of) - k
        first = 0 if k == AXES else last
        return tuple(n if first <= i <= last else 1 for i, n in enumerate(of))

    def fits(of: tuple[int, ...]) -> bool:
        return len(of) >= k

    return Slot(f"axis_{k}", shape, fits=fits if k > 1 else None, signed=False, compress=False)


COVERS = tuple(_cover(k) for k in range(1, AXES + 1))
MOMENTUM = Hyper("momentum", "[0, 1)", optional="zero")
SPEC = Spec(
    name="sm3",
    hypers=(RATE, MOMENTUM, Hyper("b2", "[0, 1]"), EPS, DECAY),
    slots=(Slot("mu", when=lambda on: on["momentum"]), *COVERS),
    gives="direction",
    decay="step",
    complex="no",
    reduces="alone",
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """The weight of this step's square: a sum has 1, a mean what is left; and the momentum's."""
    return {"weight": jnp.where(h.b2 == 1, 1, 1 - h.b2)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sm3`."""
    covers = {c.name: getattr(s, c.name) for c in COVERS if hasattr(s, c.name)}

    def squares(covers: dict[str, Any]) -> Any:
        least = functools.reduce(jnp.minimum, covers.values())
        return h.b2 * least + h.weight * jnp.square(g)

    if len(covers) == 1:  # of a vector or a number every maximum is of one entry
        nu = squares(covers)
        new = dict.fromkeys(covers, nu)
    else:
        # A ν for each maximum: one for all of them a GPU writes down in a kernel that does no more.
        *own, seen = apart(covers, len(covers) + 1)
        nu = squares(seen)
        new = {
            name: jnp.max(squares(each), _others(x, g), keepdims=True) if g.size else x
            for each, (name, x) in zip(own, covers.items(), strict=True)
        }
    under = safe_sqrt(nu + h.eps)
    d = Ratio(g, jnp.where(under > 0, under, 1))
    if h.momentum is None:
        return d, new
    mu = lerp(s.mu, d.value, 1 - h.momentum)
    return mu, new | {"mu": mu}


def _others(cover: Any, g: Any) -> list[int]:
    return [i for i in range(g.ndim) if cover.shape[i] != g.shape[i]]


@optimizer(SPEC, rule, prepare=prepare)
def sm3(
    learning_rate: Value = 0.1,
    momentum: Value = 0.9,
    *,
    b2: Value = 1.0,
    eps: Value = 1e-8,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """SM3: Adagrad for large embeddings, whose second moment takes a row and a column.

    With η the learning rate, λ the weight decay, and for every axis k of a parameter a vector
    Vₖ, whose entry i is for all entries of the parameter at place i of that axis:

        ν ← β₂·minₖ Vₖ + g²;  β₂·minₖ Vₖ + (1 − β₂)·g² if β₂ < 1
        Vₖ ← the maxima of ν along axis k
        μ ← β·μ + (1 − β)·g / √(ν + ε)
        p ← p·(1 − η·λ) − η·μ

    Of a vector or a number this is Adagrad.

    **Arguments** (defaults are optax's; η is of the paper's experiments):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `momentum`: β in [0, 1). Off, or the number 0, keeps no `mu`.
    - `b2`: β₂ in [0, 1]: 1 for sums, as in the paper, less for means.
    - `eps`: ε ≥ 0, inside the root: 10⁻⁸ there is 10⁻⁴ outside.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** with momentum `mu` like the parameters, in at least float32; `axis_1` for the last
    axis, `axis_2` and `axis_3` for those before, with length 1 along all others, and `axis_4` for
    all that stand before these together.

    **Raises:** `ConfigError` for a number out of range; `TreeError` for complex parameters.

    Source: Anil, Gupta, Koren and Singer, 2019, SM3-II. A parameter of more than four axes has a
    finer cover than optax's, and so is nearer to Adagrad.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sm3(0.1, momentum=0.0)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
