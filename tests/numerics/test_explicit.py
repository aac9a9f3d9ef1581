"""Reshapes on a mesh of explicit axes: the numbers of any other, and how the result is split."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jopt.numerics.explicit import reshaped


@pytest.mark.parametrize(
    ("shape", "spec", "new", "split"),
    [
        ((8, 24), P("f"), (8, 3, 8), P("f", None, None)),
        ((8, 24), P(None, "f"), (8, 4, 6), P(None, "f", None)),
        ((8, 24), P(None, "f"), (8, 3, 8), P(None, None, None)),  # 3 in two is none
        ((8, 4, 6), P(None, "f", "e"), (8, 24), P(None, "f")),
        ((8, 4, 6), P(None, None, "e"), (8, 24), P(None, None)),
        ((1, 8, 1), P(None, ("f", "e")), (8,), P(("f", "e"))),
        ((8,), P("e"), (1, 8, 1), P(None, "e", None)),
        ((6, 4), P("f", "e"), (4, 6), P(None, None)),
        ((4, 0), P("f"), (4, 0, 2), P(None, None, None)),
    ],
)
def test_a_reshape_says_how_its_result_is_split(shape, spec, new, split):
    mesh = jax.make_mesh((2, 2), ("f", "e"), axis_types=(AxisType.Explicit,) * 2)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = reshaped(jax.device_put(x, NamedSharding(mesh, spec)), new)
    np.testing.assert_array_equal(found, x.reshape(new))
    assert jax.typeof(found).sharding.spec == split
