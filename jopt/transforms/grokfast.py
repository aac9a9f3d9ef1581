"""Grokfast: what is slow in the gradients, amplified."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of
from jopt.core import Common, Hyper, Slot, Spec, Value, optimizer
from jopt.core.checks import check_count
from jopt.numerics import lerp

GAIN = Hyper("gain", "[0, inf)")
EMA = Spec(
    "grokfast",
    (Hyper("decay", "[0, 1)"), GAIN),
    (Slot("mu"),),
    counts=True,
    steps=False,
    elementwise=True,
)


def _window(shape: tuple[int, ...], on: Any) -> tuple[int, ...]:
    return (on["window_size"], *shape)


MA = Spec(
    "grokfast_ma",
    (GAIN,),
    (
        Slot("window", _window, entries=True),
        Slot("place", "scalar", dtype="int32"),
        Slot("seen", "scalar", dtype="int32"),
    ),
    options={"window_size": None, "reduce": None, "warmup": None},
    steps=False,
)


def smoothed(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `grokfast`."""
    mu = jnp.where(h.t == 1, g, lerp(s.mu, g, 1 - h.decay))
    return g + h.gain * mu, {"mu": mu}


def windowed(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `grokfast_ma`."""
    size = h.window_size
    window = jax.lax.dynamic_update_index_in_dim(s.window, g, s.place, 0)
    seen = jnp.minimum(s.seen + 1, size)
    total = jnp.sum(window, 0)
    if h.reduce == "mean":
        total = total / seen.astype(h.gain.dtype)
    gain = jnp.where((seen == size) | (not h.warmup), h.gain, 0)
    return g + gain * total, {"window": window, "place": (s.place + 1) % size, "seen": seen}


@optimizer(EMA, smoothed)
def grokfast(
    *,
    decay: Value = 0.98,
    gain: Value = 2.0,
    **common: Unpack[Common],
) -> None:
    """μ ← α·μ + (1 − α)·g, and g + λ·μ in place of g: what is slow in the gradients, amplified.

    Before any optimizer: `jopt.chain(jopt.grokfast(), jopt.adamw(1e-3))`. μ begins as the first
    gradient.

    **Arguments** (defaults are the authors'):

    - `decay`: α in [0, 1), a number or a schedule.
    - `gain`: λ ≥ 0, their `lamb`.
    - `**common`: see `jopt.Common`.

    **State:** `mu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Lee, Kang, Kim and Lee, 2024, "Grokfast: accelerated grokking by amplifying slow
    gradients", algorithm 2, Grokfast-EMA.

    >>> import jax.numpy as jnp, jopt
    >>> tx, g = jopt.grokfast(decay=0.5), {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update(g, tx.init(g))
    >>> float(updates["w"]), float(tx.update({"w": jnp.float32(3.0)}, state)[0]["w"])
    (3.0, 7.0)
    """


@optimizer(MA, windowed)
def grokfast_ma(
    *,
    gain: Value = 5.0,
    window_size: int = 100,
    reduce: Literal["mean", "sum"] = "mean",
    warmup: bool = True,
    **common: Unpack[Common],
) -> dict[str, Any]:
    """g + λ·(the mean of the last w gradients) in place of g. It keeps all w of them.

    **Arguments** (defaults are the authors'):

    - `gain`: λ ≥ 0, a number or a schedule; their `lamb`.
    - `window_size`: w ≥ 1.
    - `reduce`: `"mean"`, or `"sum"`, w times as much.
    - `warmup`: whether g passes as it is until there are w gradients; else the mean is of those
      that there are.
    - `**common`: see `jopt.Common`; `state_dtype="int8"` is what such a window asks for.

    **State:** `window`, w gradients of each parameter, in at least float32; for each `place`,
    where the next one goes, and `seen`, how many there are.

    What comes out is up to 1 + λ times as large (1 + λ·w with `"sum"`), and of two in a row the
    square of that. The squares of an optimizer behind are infinite in float32 from 1.84·10¹⁹, as
    in torch: so at the defaults from gradients of 3.1·10¹⁸, behind two in a row from 5.1·10¹⁷. The
    sum of the window is from 3.4·10³⁸/w.

    **Raises:** `ConfigError` for a number out of range.

    Source: Lee, Kang, Kim and Lee, 2024, algorithm 1, Grokfast-MA.

    >>> import jax.numpy as jnp, jopt
    >>> tx, g = jopt.grokfast_ma(gain=1.0, window_size=2), {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update(g, tx.init(g))
    >>> float(updates["w"]), float(tx.update({"w": jnp.float32(3.0)}, state)[0]["w"])
    (1.0, 5.0)
    """
    if not is_one_of(reduce, "mean", "sum"):
        raise ConfigError(
            "grokfast_ma", "reduce is unknown", expected="'mean' or 'sum'", found=repr(reduce)
        )
    return {"window_size": check_count("grokfast_ma", "window_size", window_size, 1)}
