"""Clipping gradients: by value, by the norm of each leaf, by the norm of all; and unit length."""

from __future__ import annotations

import math
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Common, Hyper, Spec, Transform, Value, leafwise, treewise
from jopt.core.axes import check_axes
from jopt.core.side_by_side import apart, in_turns
from jopt.numerics import cast, scaled_norm, scaled_norms
from jopt.numerics.explicit import stacked
from jopt.numerics.once import once_if
from jopt.numerics.repeated import in_batches

BY_VALUE = Spec("clip_by_value", (Hyper("max_value", "[0, inf)"),), steps=False)
BY_NORM = Spec("clip_by_norm", (Hyper("max_norm", "[0, inf)"),), steps=False)
BY_GLOBAL_NORM = Spec("clip_by_global_norm", (Hyper("max_norm", "[0, inf)"),), steps=False)
BY_BLOCK_RMS = Spec("clip_by_block_rms", (Hyper("threshold", "[0, inf)"),), steps=False)
UNIT = Spec(
    "normalize_by_update_norm", (Hyper("scale_factor"), Hyper("eps", "[0, inf)")), steps=False
)

# What torch's clip_grad_norm_ adds to the norm before it divides.
EPS = 1e-6


def _by_value(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    return jnp.clip(g, -h.max_value, h.max_value), {}


def _by_own_norm(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    (clipped,), new = _by_norm([g], s, p, h)
    return clipped, new


def _by_norm(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    each = zip(g, *scaled_norms(g), strict=True)
    short = ((x, *_short(f, n, h.max_norm)) for x, f, n in each)
    return [_shortened(x, row[0], row[1], passes) for x, row, passes in short], {}


def _by_global_norm(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    # Scalars, then products that XLA can fold into whatever reads them: the clipped gradients
    # need never be written out.
    turns = in_turns(x.shape for x in g)
    rows = _shares(*scaled_norm(g), h.max_norm, max(turns) + 1)
    rows = [(cast(to_one, g[0].dtype), cast(x, g[0].dtype), one) for to_one, x, one in rows]
    shapes, of_each = [x.shape for x in g], [rows[turn] for turn in turns]
    return in_batches(lambda x, row: _shortened(x, *row), g, shapes, of_each), {}


def _by_block_rms(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    (factor,), (norm,) = scaled_norms([g])
    # √n of n entries, where a pair is one.
    most = h.threshold * math.sqrt(math.prod(g.shape[: h.ndim]))
    passes = norm <= most * factor
    return jnp.where(passes, g, most / jnp.where(passes, 1, norm) * (factor * g)), {}


def _unit(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    factor, norm = scaled_norm(g)
    under = norm + h.eps * factor
    share = h.scale_factor / jnp.where(under == 0, 1, under)
    # The power of two first: where the norm is out of range, the quotient alone may be, too.
    return [cast(share, x.dtype) * (cast(factor, x.dtype) * x) for x in g], {}


def _short(factor: Any, norm: Any, most: Any) -> Any:
    """min(c / (‖g‖ + 10⁻⁶), 1) from f and ‖f·g‖: two numbers whose product it is, and whether 1.

    As one number it may be next to nothing and count as 0, where c is small or g near the largest
    number. The first is the power of two that takes g to about 1, so that the other is about c.
    """
    shifted = norm + EPS * factor
    info = jnp.finfo(shifted.dtype)
    number, integer = shifted.dtype, jnp.dtype(f"int{info.bits}")
    # 2⁻ᵉ of a number with the exponent e has the bits of 1 twice, without those of 2ᵉ; and at
    # the least those of a number that is normal, times the factor too.
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(shifted), integer)
    one = 1 - info.minexp
    to_one = jnp.maximum(2 * one - (bits >> info.nmant), 1)
    to_one = jnp.where(factor < 1, jnp.maximum(to_one, 1 + info.maxexp * 3 // 4), to_one)
    to_one = jax.lax.bitcast_convert_type(to_one << info.nmant, number)
    scale = cast(most, number) / (shifted * to_one)
    passes = scale * (factor * to_one) >= 1
    return stacked([jnp.where(passes, 1, x) for x in (factor * to_one, scale)]), passes


def _shares(factor: Any, norm: Any, most: Any, count: int) -> list[tuple[Any, Any, Any]]:
    """So many times what `_short` gives, as numbers, for leaves by their turns; see `apart`."""

    def by_turns(*of: Any) -> list[tuple[Any, Any, Any]]:
        return [(row[0], row[1], passes) for row, passes in apart(_short(*of), count)]

    def in_common(*of: Any) -> list[tuple[Any, Any, Any]]:
        return [_made_once(*of)] * count

    found: list[tuple[Any, Any, Any]] = jax.lax.platform_dependent(
        factor, norm, most, cpu=in_common, default=by_turns
    )
    return found


def _made_once(factor: Any, norm: Any, most: Any) -> tuple[Any, Any, Any]:
    """What `_short` gives; a CPU would make it anew, norm and all, in every kernel that reads it.

    XLA looks into no loop, and hands on what comes out of one as it is.
    """
    like = norm + cast(most, norm.dtype)
    start = like, like, like > 0
    # A factor is above 0, which XLA does not know.
    made: tuple[Any, Any, Any] = once_if(factor > 0, lambda _: _numbers(factor, norm, most), start)
    return made


def _numbers(factor: Any, norm: Any, most: Any) -> tuple[Any, Any, Any]:
    row, passes = _short(factor, norm, most)
    return row[0], row[1], passes


def _shortened(x: Any, to_one: Any, scale: Any, passes: Any) -> Any:
    # The primitives themselves: jnp's product takes tracing ten times as long.
    to_one, scale = cast(to_one, x.dtype), cast(scale, x.dtype)
    # Chosen, not multiplied by 1: that takes numbers below the normal ones for 0 on a CPU.
    return jax.lax.select(passes, x, jax.lax.mul(jax.lax.mul(x, to_one), scale))


@configured("jopt.")
def clip_by_value(max_value: Value, **common: Unpack[Common]) -> Transform:
    """g ← min(max(g, −v), v), entry by entry, as torch's `clip_grad_value_`.

    Real and imaginary parts are clipped apart.

    **Arguments:** `max_value`: v ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.clip_by_value(1.0)
    >>> grads = {"w": jnp.array([-3.0, 0.5])}
    >>> tx.update(grads, tx.init(grads))[0]
    {'w': Array([-1. ,  0.5], dtype=float32)}
    """
    return leafwise(BY_VALUE, _by_value, max_value=max_value, **common)


@configured("jopt.")
def clip_by_norm(max_norm: Value, **common: Unpack[Common]) -> Transform:
    """g ← g·min(c / (‖g‖₂ + 10⁻⁶), 1), each leaf by its own norm; with `axes`, each tensor.

    **Arguments:** `max_norm`: c ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.clip_by_norm(1.0)
    >>> grads = {"w": jnp.array([3.0, 4.0])}
    >>> tx.update(grads, tx.init(grads))[0]["w"].round(3)
    Array([0.6, 0.8], dtype=float32)
    """
    if check_axes("clip_by_norm", common.get("axes")):
        return leafwise(BY_NORM, _by_own_norm, max_norm=max_norm, **common)
    # All leaves at once, which takes fewer kernels.
    return treewise(BY_NORM, _by_norm, max_norm=max_norm, **common)


@configured("jopt.")
def clip_by_global_norm(max_norm: Value, **common: Unpack[Common]) -> Transform:
    """g ← g·min(c / (‖(g₁, g₂, …)‖₂ + 10⁻⁶), 1), all leaves by one norm.

    As torch's `clip_grad_norm_`, the 10⁻⁶ included. With groups each group is clipped by its
    own norm; leaves that no group matches are together one group. Leaves whose gradient is
    `None`, and those of frozen groups, do not count. A norm that is not finite gives zeros
    and NaN: put `skip_nonfinite` around. Of finite gradients it is right, whatever their size.

    **Arguments:** `max_norm`: c ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.clip_by_global_norm(1.0)
    >>> grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    >>> tx.update(grads, tx.init(grads))[0]["a"].round(3)
    Array([0.6], dtype=float32)
    """
    return treewise(BY_GLOBAL_NORM, _by_global_norm, max_norm=max_norm, **common)


@configured("jopt.")
def clip_by_block_rms(threshold: Value, **common: Unpack[Common]) -> Transform:
    """g ← g·min(1, c / √mean(|g|²)), each leaf by its own mean; with `axes`, each tensor.

    **Arguments:** `threshold`: c ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.clip_by_block_rms(1.0), {"w": jnp.array([2.0, 2.0, -2.0])}
    >>> tx.update(grads, tx.init(grads))[0]["w"].round(3).tolist()
    [1.0, 1.0, -1.0]
    """
    return leafwise(BY_BLOCK_RMS, _by_block_rms, threshold=threshold, **common)


@configured("jopt.")
def normalize_by_update_norm(
    scale_factor: Value = 1.0, eps: Value = 1e-6, **common: Unpack[Common]
) -> Transform:
    """g ← c·g / (‖(g₁, g₂, …)‖₂ + ε): all leaves together get length c.

    What counts as one, with groups and without gradients, is as for `clip_by_global_norm`.

    **Arguments:** `scale_factor`: c, of either sign, a number or a schedule; `eps`: ε ≥ 0; with
    0, gradients that are all 0 stay so; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.normalize_by_update_norm(), {"w": jnp.array([3.0, 4.0])}
    >>> tx.update(grads, tx.init(grads))[0]["w"].round(3).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    return treewise(UNIT, _unit, scale_factor=scale_factor, eps=eps, **common)
