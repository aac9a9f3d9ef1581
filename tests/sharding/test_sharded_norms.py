"""Norms on a mesh of automatic axes, where nothing says how arrays are split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.benchmarks.on_mesh import cost
from tests.sharding.meshes import AUTO

SHAPES = {
    "a": (512, 256),
    "b": (512, 256),
    "c": (256, 512),
    "d": (64,),
    "e": (64,),
    "f": (8, 16),
    "g": (16, 512),
}


def placed(spec, scale=1.0):
    rng = np.random.default_rng(0)
    mesh = jax.make_mesh((2, 4), ("f", "t"), axis_types=(AUTO, AUTO))

    def one(shape):
        own = NamedSharding(mesh, P(*spec[: len(shape)]))
        return jax.device_put((scale * rng.normal(size=shape)).astype(np.float32), own)

    return {name: one(shape) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("spec", [P("f"), P(("f", "t")), P(None, "t"), P("f", "t"), P()], ids=str)
def test_nothing_is_gathered_for_a_norm(spec):
    tree = placed(spec)
    made = jax.jit(lambda x: (jopt.global_norm(x), jopt.all_finite(x))).lower(tree).compile()
    assert "all-gather" not in cost(made.as_text()).counts
    found, finite = made(tree)
    whole = np.concatenate([np.asarray(x, np.float64).ravel() for x in tree.values()])
    np.testing.assert_allclose(found, np.linalg.norm(whole), rtol=1e-6)
    assert finite


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_squares_out_of_range_are_looked_at_again(scale):
    tree = placed(P("f"), scale)
    whole = np.concatenate([np.asarray(x, np.float64).ravel() for x in tree.values()])
    found = jax.jit(jopt.global_norm)(tree)
    np.testing.assert_allclose(found, np.linalg.norm(whole), rtol=1e-6)


def test_an_entry_that_is_not_finite_is_found_on_any_device():
    tree = placed(P("f", "t"))
    for name, x in tree.items():
        odd = tree | {name: x.at[(-1,) * x.ndim].set(jnp.nan)}
        assert not jax.jit(jopt.all_finite)(odd)
