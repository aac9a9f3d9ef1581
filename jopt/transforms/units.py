"""Unit by unit: what looks at the weights into each output of a layer on its own."""

from __future__ import annotations

import math
from typing import Any, Unpack

import jax.numpy as jnp

from jopt.base import ConfigError
from jopt.core import Common, Hyper, Spec, Value, optimizer
from jopt.numerics import scaled_norms_along

Axis = int | tuple[int, ...] | None
"""The axis or axes that a unit runs along; `None`: told from the leaf's number of axes."""

ADAPTIVE = Spec(
    "adaptive_grad_clip",
    (Hyper("clipping", "[0, inf)"), Hyper("eps", "[0, inf)")),
    options={"axis": None},
    steps=False,
    needs_params=True,
)
BY_UNIT = Spec(
    "clip_by_unit_norm", (Hyper("max_norm", "[0, inf)"),), options={"axis": None}, steps=False
)
CENTRED = Spec("centralize", options={"axis": None}, steps=False)


def axes_of(ndim: int, axis: Axis) -> tuple[int, ...]:
    """The axes that a unit of an array runs along."""
    if axis is None:
        # Of a matrix, or the heads of attention, the inputs; of a convolution also its window.
        return tuple(range(ndim if ndim < 2 else 1 if ndim < 4 else ndim - 1))
    axes = (axis,) if isinstance(axis, int) else axis
    if not all(-ndim <= i < ndim for i in axes):
        raise ConfigError(
            "axis=",
            "a leaf does not have the axes that its units are to run along",
            expected=f"axes of a leaf with {ndim}",
            found=axes,
            fix="Leave such leaves out: jopt.route, or freeze them in groups=.",
        )
    return tuple(dict.fromkeys(i % ndim for i in axes))


def norms(x: Any, h: Any) -> tuple[Any, Any]:
    """f and ‖f·u‖ for each unit u."""
    pairs = range(h.ndim, x.ndim)
    return scaled_norms_along(x, (*axes_of(h.ndim, h.axis), *pairs))


def clipped(g: Any, most: Any, h: Any) -> Any:
    """g·min(1, most / ‖u‖) for each unit u."""
    factor, norm = norms(g, h)
    passes = norm <= most * factor
    return jnp.where(passes, g, most / jnp.where(passes, 1, norm) * (factor * g))


def adaptive(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adaptive_grad_clip`."""
    factor, norm = norms(p, h)
    return clipped(g, h.clipping * jnp.maximum(norm / factor, h.eps), h), {}


def by_unit(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `clip_by_unit_norm`."""
    return clipped(g, h.max_norm, h), {}


def centred(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `centralize`."""
    if h.ndim < 2:
        return g, {}
    axes = axes_of(h.ndim, h.axis)
    # Divided before it is summed, so that the sum is in range.
    number = math.prod(g.shape[i] for i in axes)
    return g - jnp.sum(g / max(number, 1), axis=axes, keepdims=True), {}


def check_axis(who: str, axis: Any) -> None:
    """Raise `ConfigError` for what are no axes."""
    row = axis if isinstance(axis, tuple) else () if axis is None else (axis,)
    whole = all(type(i) is int for i in row)
    if not whole or (isinstance(axis, tuple) and (not axis or len({*axis}) < len(axis))):
        raise ConfigError(
            who,
            "axis is the axis, or axes, that a unit runs along",
            expected="an int, a tuple of different ints, or None",
            found=repr(axis)[:100],
        )


@optimizer(ADAPTIVE, adaptive)
def adaptive_grad_clip(
    clipping: Value, eps: Value = 1e-3, *, axis: Axis = None, **common: Unpack[Common]
) -> None:
    """g ← g·min(1, c·max(‖p‖, ε) / ‖g‖) for each unit: the weights into one output.

    **Arguments:**

    - `clipping`: c ≥ 0, the largest allowed ratio of gradient to parameter; 0.01 in the paper.
    - `eps`: ε ≥ 0, so that weights which start at 0 get away from it.
    - `axis`: the axis or axes that a unit runs along. `None`: all of a vector; the first of a
      leaf with two or three, such as (in, out) or (in, heads, out); all but the last of one with
      more, such as (height, width, in, out). Torch's layout is (1,) and so on. For layers of
      several kinds: one of these for each, in `jopt.route`.
    - `**common`: see `jopt.Common`. The paper leaves the last linear layer out: freeze it there.

    **Raises:** `ConfigError` for an axis that a leaf does not have.

    Source: Brock et al., 2021, "High-performance large-scale image recognition without
    normalization", equation 3.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.adaptive_grad_clip(0.5), {"w": jnp.array([3.0, 4.0])}
    >>> tx.update({"w": jnp.array([0.0, 5.0])}, tx.init(params), params)[0]
    {'w': Array([0. , 2.5], dtype=float32)}
    """
    check_axis("adaptive_grad_clip", axis)


@optimizer(BY_UNIT, by_unit)
def clip_by_unit_norm(max_norm: Value, *, axis: Axis = None, **common: Unpack[Common]) -> None:
    """g ← g·min(1, c / ‖g‖) for each unit: the weights into one output.

    **Arguments:** `max_norm`: c ≥ 0, a number or a schedule; `axis`: see `adaptive_grad_clip`;
    `**common`: see `jopt.Common`.

    **Raises:** `ConfigError` for an axis that a leaf does not have.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.clip_by_unit_norm(1.0), {"w": jnp.array([[3.0, 0.5], [4.0, 0.0]])}
    >>> tx.update(grads, tx.init(grads))[0]["w"].round(3).tolist()
    [[0.6000000238418579, 0.5], [0.800000011920929, 0.0]]
    """
    check_axis("clip_by_unit_norm", axis)


@optimizer(CENTRED, centred)
def centralize(*, axis: Axis = None, **common: Unpack[Common]) -> None:
    """g ← g − mean(g) for each unit: the weights into one output. Vectors pass.

    optax's takes the mean over all axes but the first, which is that of the inputs in torch's
    layout and that of the outputs in jax's (in, out): there it is `axis=1`.

    **Arguments:** `axis`: see `adaptive_grad_clip`; `**common`: see `jopt.Common`.

    **Raises:** `ConfigError` for an axis that a leaf does not have.

    Source: Yong et al., 2020, "Gradient centralization: a new optimization technique for deep
    neural networks", equation 1.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.centralize(), {"w": jnp.array([[1.0, 2.0], [3.0, 8.0]])}
    >>> tx.update(grads, tx.init(grads))[0]["w"].tolist()
    [[-1.0, -3.0], [1.0, 3.0]]
    """
    check_axis("centralize", axis)
