"""The eigenvectors that bases begin with: of the matrix where it has some, and the same for all."""

import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import eigenbasis

RNG = np.random.default_rng(0)
WIDE = RNG.normal(size=(2, 6))
GRAMS = {
    "full": RNG.normal(size=(4, 9)) @ RNG.normal(size=(9, 4)),
    "rank two": WIDE.T @ WIDE,
    "one row": np.diag([0.0, 0.0, 3.0, 0.0]),
    "nothing": np.zeros((3, 3)),
    "identity": np.eye(3),
}
GRAMS["full"] = GRAMS["full"] @ GRAMS["full"].T


@pytest.mark.parametrize("name", GRAMS)
def test_eigenvectors_sorted_and_the_same_after_rounding(name, x64):
    m = GRAMS[name]
    q = np.asarray(eigenbasis(jnp.asarray(m)))
    np.testing.assert_allclose(q.T @ q, np.eye(len(m)), atol=1e-14)
    size = max(np.abs(m).max(), 1e-300)
    seen = q.T @ m @ q / size
    np.testing.assert_allclose(seen, np.diag(np.diag(seen)), atol=1e-13)
    assert (np.diff(np.diag(seen)) < 1e-13).all()
    if name != "identity":  # its eigenvalues are equal, and no two of 0
        noise = RNG.normal(size=m.shape) * 1e-16 * np.abs(m).max()
        other = np.asarray(eigenbasis(jnp.asarray(m + noise + noise.T)))
        # Up to the sign of a column, which no optimizer sees.
        np.testing.assert_allclose(np.abs(np.sum(q * other, 0)), 1, atol=1e-10)
