"""Many runs at once by `jax.vmap`, on explicit axes: each has the numbers of one alone.

The axis that numbers the runs is split over devices, or is not; what each run has is split by
the rest of the mesh. Of an axis that is mapped away types within show nothing.
"""

from __future__ import annotations

import types
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.sharding.layouts import CASES, STACKS, mesh_of
from tests.sharding.test_every_layout import furthest
from tests.sharding.test_every_layout import types as types_of

pytestmark = pytest.mark.usefixtures("x64", "optax_promotes")

RUNS = 2
SOME = ("adamw", "muon", "soap", "lbfgs", "accumulate()")
WHOLE = ("lbfgs", "kron", "subspaces()")
"""Where a loop or branch of one run is not that of another; jax maps those of whole arrays only."""


@pytest.fixture
def optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def many(name, mesh, over, seed):
    """Values of some runs, the first axis split over this axis of the mesh."""
    case = case_of(name)
    rest = types.SimpleNamespace(axis_names=tuple(n for n in mesh.axis_names if n != "f"))
    tree = case.values(rest, seed)
    layout = jax.tree.leaves(case.leaves(rest), is_leaf=lambda x: isinstance(x, tuple))
    specs = [P() if name in WHOLE else spec for _, spec in layout]
    specs = jax.tree.unflatten(jax.tree.structure(tree), specs)
    return jax.tree.map(
        lambda x, spec: jax.device_put(
            jnp.stack([x * (1 + i / 4) for i in range(RUNS)]), NamedSharding(mesh, P(over, *spec))
        ),
        tree,
        specs,
    )


def case_of(name):
    case = (CASES | STACKS)[name]
    # The squares of float64 are summed by a shorter way.
    return replace(case, dtype="float32") if case.dtype == "float64" else case


def begun(case):
    return jax.vmap(lambda params: (params, case.tx.init(params)))


def assert_types_stand_still(name, over):
    mesh, case = mesh_of((2, 2, 2), AxisType.Explicit), case_of(name)
    with jax.set_mesh(mesh):
        params, grads = many(name, mesh, over, 0), many(name, mesh, over, 1)
        start = jax.eval_shape(begun(case), params)
        after = jax.eval_shape(jax.vmap(case.taken), *start, grads)
    assert types_of(after) == types_of(start)
    assert types_of(after[0]) == types_of(params)


def trained(name, mesh, over):
    case = case_of(name)
    params, state = jax.jit(begun(case))(many(name, mesh, over, 0))
    step = jax.jit(jax.vmap(case.taken))
    for i in range(2):
        params, state = step(params, state, many(name, mesh, over, i + 1))
    return params, state


@pytest.mark.parametrize("name", SOME)
def test_types_stand_still(name):
    assert_types_stand_still(name, "f")


@pytest.mark.slow
@pytest.mark.parametrize("over", ["f", None])
@pytest.mark.parametrize("name", CASES | STACKS)
def test_types_of_all_stand_still(name, over):
    assert_types_stand_still(name, over)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES | STACKS)
def test_runs_have_the_numbers_of_runs_on_one_device(name):
    wanted = trained(name, mesh_of((1, 1, 1), AxisType.Auto), None)
    mesh = mesh_of((2, 2, 2), AxisType.Explicit)
    with jax.set_mesh(mesh):
        found = trained(name, mesh, "f")
    off, at = furthest(found, wanted)
    assert off < 1e-4, (at, off)
