"""Noise on the gradients, from a key that is part of the state."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, plain, whole_number
from jopt.core import Common, Hyper, Number, Slot, Spec, Value, optimizer, treewise
from jopt.core.spec import Options, Shape
from jopt.numerics import drawn, gaussian

MOST_SEED = 2**24
"""The largest seed: as all numbers of a state it is a float32, which knows no further ones."""


def _pair(shape: Shape, options: Options) -> Shape:
    return (2,)


SEED = Hyper("seed", f"[0, {MOST_SEED}]", scheduled=False)
KEY = Slot("key", shape=_pair, init="seed", scope="group", dtype="uint32")

SPEC = Spec(
    "add_noise",
    (Hyper("eta", "[0, inf)"), Hyper("gamma"), SEED),
    (KEY,),
    counts=True,
    ageless=True,
    steps=False,
)


def prepare(h: Any) -> dict[str, Any]:
    """How large the noise of this step is."""
    return {"deviation": jnp.sqrt(h.eta) * h.t ** (-0.5 * h.gamma)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `add_noise`."""
    key, following = drawn(s.key)
    noise = gaussian(key, h.names, g)
    noisy = [x + h.deviation.astype(x.dtype) * z for x, z in zip(g, noise, strict=True)]
    return noisy, {"key": following}


ALSO = {"key": "seed"}
"""Optax's name, and ours for the same."""


def check_seed(who: str, seed: Any, key: Any = None) -> None:
    """Raise `ConfigError` for a seed, or a key in its place, that is known and no whole number."""
    name, value = ("seed", seed) if key is None else ("key", key)
    dtype, shape = getattr(value, "dtype", float), getattr(value, "shape", ())
    if value is None or isinstance(plain(value), bool | int | float | str):
        whole_number(who, name, value, 0, of="a stream of random numbers")
    elif jnp.issubdtype(dtype, jax.dtypes.prng_key) or shape:
        raise ConfigError(
            who,
            f"{name}= is a whole number here, not a key of jax's",
            expected=f"a whole number up to {MOST_SEED}",
            found=f"{dtype} {shape}",
            fix=f'Put it in the state: state["{who}"]["key"]["default"] = jax.random.key_data(key)',
        )


@optimizer(SPEC, rule, door=treewise, prepare=prepare, also=ALSO)
def add_noise(
    eta: Value,
    gamma: Value = 0.55,
    key: Number | None = None,
    *,
    seed: Value = 0,
    **common: Unpack[Common],
) -> None:
    """g ← g + √(η / tᵞ)·z, with z from a normal distribution and t the step from 1.

    Of complex gradients both parts get noise of this variance. The key of the noise is in the
    state: a resumed run draws what the uninterrupted one would have drawn, `jax.vmap` over states
    or seeds gives streams of their own, and a leaf's noise depends on its path, not on its
    neighbours nor on its sharding.

    **Arguments:** `eta`: η ≥ 0, the variance at the first step; `gamma`: γ, how fast it falls
    (0: never; the paper's 0.55); `seed`, or optax's name `key`: a whole number up to 2²⁴, from
    which the first key is made; `**common`: see `jopt.Common`. For a key of your own, or another
    stream, put the two uint32 of `jax.random.key_data` at `state["add_noise"]["key"]["default"]`.

    **State:** `key`, two uint32 for each group; the step count.

    Source: Neelakantan et al., 2015, "Adding gradient noise improves learning for very deep
    networks", section 3.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.add_noise(0.01, seed=1)
    >>> grads = {"w": jnp.zeros(10_000)}
    >>> noise, _ = tx.update(grads, tx.init(grads))
    >>> round(float(noise["w"].std()), 2)
    0.1
    """
    check_seed("add_noise", seed, key)
