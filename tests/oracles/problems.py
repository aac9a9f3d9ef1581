"""Start parameters and gradients that the oracles share: flat dicts of NumPy arrays, keyed by path.

Without any import but NumPy's, so that references which run beside no present library see them too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Arrays = dict[str, np.ndarray]

# Several leaves of every rank; gradients of scales that no single epsilon serves.
LEAVES = (
    ("encoder/scale", (), 1.0),
    ("encoder/bias", (5,), 1e-2),
    ("encoder/kernel", (4, 3), 1.0),
    ("head/bias", (3,), 10.0),
    ("head/kernel", (3, 6), 1e-3),
    ("head/conv", (2, 3, 4), 1e2),
)


def problem(
    ndims: Sequence[int], steps: int, *, seed: int = 0, pairs: bool = False
) -> tuple[Arrays, Arrays]:
    """Start parameters, and as many gradients: mixed scales, some entries and steps exactly 0."""
    rng = np.random.default_rng(seed)

    def normal(shape: tuple[int, ...]) -> np.ndarray:
        x = rng.normal(size=shape)
        return x + 1j * rng.normal(size=shape) if pairs else x

    params, grads = {}, {}
    for name, shape, scale in LEAVES:
        if len(shape) in ndims:
            params[name] = normal(shape)
            g = scale * normal((steps, *shape))
            g[rng.random(g.shape) < 0.1] = 0
            g[7:9] = 0
            grads[name] = g
    return params, grads
