"""Estimates of the Hessian's diagonal, in place of the gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Unpack, get_args

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of
from jopt.core import Common, Hyper, Number, Spec, Value, optimizer, treewise
from jopt.core.checks import check_count
from jopt.core.curvature import NEEDS, check_batch_size, typed
from jopt.numerics import drawn, gaussian, hutchinson, signs, squared_slopes
from jopt.transforms.noise import KEY, SEED, check_seed

Estimator = Literal["hutchinson", "gauss_newton_bartlett"]
"""What the diagonal of the Hessian is estimated from, see `jopt.hessian_diagonal`."""
Along = Literal["signs", "normal"]
"""What Hutchinson's vector is drawn from."""
DRAWS = {"signs": signs, "normal": gaussian}

SPEC = Spec(
    "hessian_diagonal",
    (Hyper("batch_size", "(0, inf)", optional=True), SEED),
    (replace(KEY, when=None),),
    options={"estimator": None, "along": None, "samples": None},
    extra=lambda on: (NEEDS[on["estimator"]],),
    optional=("key",),
    steps=False,
    needs_params=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `hessian_diagonal`."""
    key, following = drawn(s.key)
    key = key if h.key is None else typed(h.key)
    p = [jnp.asarray(x) for x in p]

    def one(total: list[Any], own: Any) -> tuple[list[Any], None]:
        if h.estimator == "hutchinson":
            found = hutchinson(h.value_fn, p, DRAWS[h.along](own, h.names, p))
        else:
            found = [h.batch_size.astype(x.dtype) * x for x in squared_slopes(h.sampled_fn, p, own)]
        return [a + x / h.samples for a, x in zip(total, found, strict=True)], None

    none = [jnp.zeros_like(x) for x in p]
    if h.samples == 1:
        return one(none, key)[0], {"key": following}
    total, _ = jax.lax.scan(one, none, jax.random.split(key, h.samples))
    return total, {"key": following}


@optimizer(SPEC, rule, door=treewise)
def hessian_diagonal(
    *,
    estimator: Estimator = "hutchinson",
    along: Along = "signs",
    samples: int = 1,
    batch_size: Value | None = None,
    seed: Number = 0,
    **common: Unpack[Common],
) -> dict[str, Any] | None:
    """An estimate of the diagonal of the Hessian in place of the gradients.

    The mean over some draws of one of these, with f̂ the loss on labels drawn from the model:

        u·(∇²f·u)         "hutchinson"; u is of random signs, or normal
        B·(∇f̂)²           "gauss_newton_bartlett", of Gauss and Newton's part of the Hessian

    What an optimizer takes as `hessian=` with `estimator="given"`, and whatever else wants to look
    at curvature. The variance of an entry is ∑ h²ᵢⱼ over j ≠ i with signs, which give a diagonal
    Hessian exactly, and 2·h²ᵢᵢ more with normal u.

    **Arguments:**

    - `estimator`: one of the two.
    - `along`: "signs" or "normal", of "hutchinson" only: what u is drawn from.
    - `samples`: how many draws the mean is over.
    - `batch_size`: B > 0, of "gauss_newton_bartlett" only: how many labels f̂ is the mean over.
    - `seed`: a whole number up to 2²⁴, from which the first key is made; read by `init`.
    - `**common`: see `jopt.Common`. Each group of parameters has an estimate of its own.

    **In `update`:** `value_fn=` (or `obj_fn=`), the loss as a function of the parameters, on this
    batch; for the other `sampled_fn=`, f̂ as a function of the parameters and a random key. `key=`
    may be the key of this step.

    **State:** `key`, two uint32 for each group.

    **Raises:** `ConfigError` for a number out of range, and without the function.

    Source: Hutchinson, 1990; Liu et al., 2023, "Sophia", algorithms 1 and 2.

    >>> import jax, jax.numpy as jnp, jopt
    >>> loss = lambda p: jnp.sum(jnp.array([1.0, 100.0]) * p["w"] ** 2) / 2
    >>> params = {"w": jnp.array([0.5, 0.5])}
    >>> curvature = jopt.hessian_diagonal()
    >>> found, _ = curvature.update(params, curvature.init(params), params, value_fn=loss)
    >>> found["w"]
    Array([  1., 100.], dtype=float32)
    """
    for name, given, known in (
        ("estimator", estimator, get_args(Estimator)),
        ("along", along, get_args(Along)),
    ):
        if not is_one_of(given, *known):
            raise ConfigError(
                "hessian_diagonal",
                f"{name} is none of those there are",
                expected=", ".join(map(repr, known)),
                found=repr(given)[:100],
            )
    check_batch_size("hessian_diagonal", estimator, batch_size)
    check_seed("hessian_diagonal", seed)
    return {"samples": check_count("hessian_diagonal", "samples", samples, 1)}
