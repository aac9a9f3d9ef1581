"""Differential privacy: the gradient of each example clipped, their sum with Gaussian noise."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax.numpy as jnp

from jopt.base import ConfigError, configured, is_one_of
from jopt.core import Hyper, Number, Spec, Transform, Value
from jopt.core.doors import TreePart
from jopt.numerics import cast, drawn, gaussian, scaled_norms_along, widest
from jopt.numerics.explicit import stacked
from jopt.transforms.noise import KEY, SEED, check_seed

SPEC = Spec(
    "differentially_private",
    (
        Hyper("l2_norm_clip", "[0, inf)"),
        Hyper("noise_multiplier", "[0, inf)"),
        Hyper("batch_size", "[1, inf)", optional=True),
        SEED,
    ),
    (KEY,),
    options={"by_leaf": None},
    steps=False,
    needs_params=True,
)


class PrivatePart(TreePart):
    """The rule, for gradients with a first axis of examples."""

    by_example = True


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `differentially_private`."""
    number = {x.shape[0] for x in g}
    if len(number) != 1:
        raise ConfigError(
            "differentially_private",
            "the leaves have gradients of different numbers of examples",
            expected="one first axis",
            found=", ".join(map(str, sorted(number))),
        )
    total = sum(x.size for x in p)
    key, following = drawn(s.key)
    if h.by_leaf is None:
        clipped = _clipped(g, h.l2_norm_clip)
    else:
        shares = [1 / len(p) if h.by_leaf == "equal" else x.size / max(total, 1) for x in p]
        bounds = [h.l2_norm_clip * math.sqrt(share) for share in shares]
        clipped = [_clipped([x], c)[0] for x, c in zip(g, bounds, strict=True)]
    deviation = h.l2_norm_clip * h.noise_multiplier
    share = 1 / (number.pop() if h.batch_size is None else h.batch_size)
    noisy = [
        (x + cast(deviation, x.dtype) * z) * jnp.asarray(share, x.dtype)
        for x, z in zip(clipped, gaussian(key, h.names, clipped), strict=True)
    ]
    return noisy, {"key": following}


def _clipped(g: list[Any], most: Any) -> list[Any]:
    """∑ᵢ gᵢ·min(1, c / ‖gᵢ‖) over the examples, without those whose norm is not finite."""
    dtype = widest(*(x.dtype for x in g))
    each = [scaled_norms_along(cast(x, dtype), range(1, x.ndim)) for x in g]
    flat = [(f.reshape(-1), n.reshape(-1)) for f, n in each]
    # The norms of the leaves are numbers like others: theirs is that of the example, f times.
    joint = stacked([n / f for f, n in flat], axis=1)
    factor, norm = (x[:, 0] for x in scaled_norms_along(joint, (1,)))
    finite = jnp.isfinite(norm)
    passes = norm <= most * factor
    share = jnp.where(passes, 1, most / jnp.where(passes | ~finite, 1, norm))
    factor = jnp.where(passes, 1, factor)

    def summed(x: Any) -> Any:
        over = [-1, *(1,) * (x.ndim - 1)]
        f, c, ok = (cast(y, x.dtype) if y.dtype != bool else y for y in (factor, share, finite))
        # Chosen, as infinity times 0 is NaN: an example must not count for more than c.
        short = c.reshape(over) * (f.reshape(over) * x)
        return jnp.sum(jnp.where(ok.reshape(over), short, 0), axis=0)

    return [summed(x) for x in g]


@configured("jopt.")
def differentially_private(
    l2_norm_clip: Value,
    noise_multiplier: Value,
    *,
    seed: Value = 0,
    key: Number | None = None,
    batch_size: Value | None = None,
    by_leaf: Literal["equal", "size"] | None = None,
) -> Transform:
    """From the gradients of single examples to their private mean: the first link of a chain.

        ḡ ← (∑ᵢ gᵢ·min(1, c / ‖gᵢ‖₂) + σ·c·z) / B,    z normal with variance 1

    It takes gradients with one axis more than the parameters, the first, for the examples of a
    batch: `jax.vmap(jax.grad(loss), in_axes=(None, 0))(params, batch)`. An example whose gradient
    is not finite counts for nothing, so that one example never moves the sum by more than c.

    What privacy a run has spent is not computed here: that is the business of `dp-accounting`
    (Google's, on PyPI), from σ, the share of the data in a batch, and the number of steps.

    **Arguments:**

    - `l2_norm_clip`: c ≥ 0, the largest norm that one example's gradient keeps.
    - `noise_multiplier`: σ ≥ 0, the noise in units of c.
    - `seed`, or optax's name `key`: a whole number up to 2²⁴, from which the first key is made.
      Whoever knows it can take the noise away again: for privacy put a secret key in its place,
      the two uint32 of `jax.random.key_data`, at
      `state["differentially_private"]["key"]["default"]`.
    - `batch_size`: B; `None`: as many as there are. Where examples are drawn independently, as
      the accounting of subsampling has it, it is the expected number, and batches may be padded
      with gradients of 0.
    - `by_leaf`: `None` clips by the norm over all leaves. Else each leaf by its own, to its share
      of c²: `"equal"`, or its share of the parameters, `"size"`.

    **State:** `key`, two uint32, exchanged at each step: a resumed run draws what the
    uninterrupted one would have drawn.

    **Raises:** `TreeError` for gradients without that axis; `ConfigError` for numbers out of range.

    There are no groups: to clip each by itself would add up to more than c. Leaves that the
    optimizer behind freezes do not count. Average over several batches behind it, not before.

    Source: Abadi et al., 2016, "Deep learning with differential privacy", algorithm 1; McMahan
    et al., 2017, for `by_leaf`.

    >>> import jax, jax.numpy as jnp, jopt
    >>> tx = jopt.chain(jopt.differentially_private(1.0, 0.0), jopt.sgd(1.0))
    >>> params = {"w": jnp.zeros(2)}
    >>> grads = {"w": jnp.array([[3.0, 4.0], [0.0, 0.2]])}  # of two examples
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> updates["w"].round(3).tolist()
    [-0.30000001192092896, -0.5]
    """
    check_seed("differentially_private", seed, key)
    seed = seed if key is None else key
    if by_leaf is not None and not is_one_of(by_leaf, "equal", "size"):
        raise ConfigError(
            "differentially_private",
            "there is no such share of a leaf",
            expected="by_leaf='equal', 'size' or None",
            found=repr(by_leaf)[:100],
        )
    numbers = {
        "l2_norm_clip": l2_norm_clip,
        "noise_multiplier": noise_multiplier,
        "batch_size": batch_size,
        "seed": seed,
    }
    return Transform({SPEC.name: PrivatePart(SPEC, rule, None, {"by_leaf": by_leaf}, numbers)})
