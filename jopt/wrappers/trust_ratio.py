"""Steps in proportion to what they move: the trust ratios of LAMB and LARS."""

from __future__ import annotations

from typing import Any, Literal

from jopt.base import ConfigError, configured, is_one_of
from jopt.core import Hyper, Spec, Transform, Value
from jopt.core.stage import Stage
from jopt.core.staged import staged
from jopt.numerics import norm, trusted

SPEC = Spec(
    "trust_ratio",
    hypers=(
        Hyper("trust_coefficient", "[0, inf)"),
        Hyper("trust_eps", "[0, inf)"),
        Hyper("min_norm", "[0, inf)", optional=True),
        Hyper("max_norm", "[0, inf)", optional=True),
        Hyper("max_ratio", "[0, inf)", optional=True),
    ),
    steps=False,
    needs_params=True,
)


def of_lamb(d: Any, at: Any, h: Any) -> Any:
    """See `trust_ratio`."""
    return _scaled(d, at.p, d, h.trust_eps, h)


def of_lars(g: Any, at: Any, h: Any) -> Any:
    """See `trust_ratio`."""
    eps = h.trust_eps if at.coupled is None else h.trust_eps + at.coupled * norm(at.p)
    return _scaled(g, at.p, at.g, eps, h)


def _scaled(x: Any, p: Any, d: Any, eps: Any, h: Any) -> Any:
    c, low, high, most = h.trust_coefficient, h.min_norm, h.max_norm, h.max_ratio
    return trusted(x, p, d, coefficient=c, eps=eps, low=low, high=high, most=most)


LAMB = Stage(SPEC, (("form", "lamb"),), direction=of_lamb, takes_decay=True)
LARS = Stage(SPEC, (("form", "lars"),), gradient=of_lars)


@configured("jopt.")
def trust_ratio(
    tx: Transform,
    *,
    form: Literal["lamb", "lars"] = "lamb",
    trust_coefficient: Value | None = None,
    trust_eps: Value = 0.0,
    min_norm: Value | None = None,
    max_norm: Value | None = None,
    max_ratio: Value | None = None,
) -> Transform:
    """Make the step of each leaf proportional to the leaf's own norm.

    With p a leaf, d the optimizer's direction, η the learning rate and λ the weight decay:

        d ← d + λ·p                                  if decay is decoupled
        r ← min(c·φ(‖p‖) / (‖d‖ + ε), r_max)         form="lamb"
        p ← p − η·r·d

    φ(x) = min(max(x, a), b); r = 1 where φ(‖p‖) or ‖d‖ (or below ‖g‖) is 0. So `adamw` in this
    form is LAMB. Decay that is `"independent"` of η stays outside, and coupled decay in the
    gradient.

    LARS scales the gradient instead, before it enters the momentum:

        r ← min(c·φ(‖p‖) / (‖g‖ + λ·‖p‖ + ε), r_max) form="lars"
        g ← r·(g + λ·p)

    Here λ is coupled decay; decoupled decay is neither in the ratio nor scaled by it. `sgd` with
    momentum and coupled decay in this form is LARS. Around other optimizers it does what it says,
    which is little for those that divide by the gradient's size, as Adam. It acts ahead of all
    other stages, whatever the order.

    Norms are of a leaf, or of each tensor of one by the optimizer's `axes`. Biases and scales
    usually stay without: send them to a bare optimizer by `jopt.route`.

    **Arguments:**

    - `tx`: an optimizer, or a chain or wrapper with one; of a chain the last one.
    - `form`: `"lamb"` or `"lars"`.
    - `trust_coefficient`: c ≥ 0; by default 1 for LAMB and 0.001 for LARS.
    - `trust_eps`: ε ≥ 0.
    - `min_norm`, `max_norm`: a and b, LAMB's bounds of φ; `None` for no bound. Its authors' code
      has none; 0 and 10 are common.
    - `max_ratio`: r_max; `None` for no bound.

    All of them are in the optimizer's state, and may be schedules.

    **Raises:** `ConfigError` where there is no optimizer, or one whose step is its own, such as
    `adafactor`, which scales by the parameter itself.

    Source: You et al., 2020, "Large batch optimization for deep learning", algorithm 2; You,
    Gitman and Ginsburg, 2017, "Large batch training of convolutional networks", equation 6 and
    algorithm 1. optax takes the norm of g + λ·p for LARS, and scales by r before the momentum
    along with η.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.trust_ratio(jopt.sgd(0.1))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> tx.update({"w": jnp.array([0.0, 2.0])}, tx.init(params), params)[0]
    {'w': Array([-0. , -0.5], dtype=float32)}
    """
    if not is_one_of(form, "lamb", "lars"):
        raise ConfigError(
            "trust_ratio",
            "there is no such form",
            expected="'lamb' or 'lars'",
            found=repr(form),
        )
    given = trust_coefficient
    return staged(
        tx,
        LAMB if form == "lamb" else LARS,
        trust_coefficient={"lamb": 1.0, "lars": 0.001}[form] if given is None else given,
        trust_eps=trust_eps,
        min_norm=min_norm,
        max_norm=max_norm,
        max_ratio=max_ratio,
    )
