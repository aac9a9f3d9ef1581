"""However parameters are split, on either kind of mesh: the numbers of one device, laid out alike.

For all optimizers, wrappers and recipes. On explicit axes an operation that would have to move
data is refused unless it says so, and types tell where everything lies: that part of the law
costs no compilation.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

import jopt
from tests.sharding.layouts import CASES, MESHES, STACKS, mesh_of, stacks

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit

pytestmark = pytest.mark.usefixtures("x64", "optax_promotes")


@pytest.fixture
def optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def run(case, params, grads_of, *, jit=True, donate=(), init=None, where=None):
    state = (init or case.tx.init)(params)
    step = case.taken
    if jit:
        step = jax.jit(step, donate_argnums=donate, out_shardings=where)
    for i in range(2):
        params, state = step(params, state, grads_of(i + 1))
    return params, state


@functools.cache
def whole(case):
    mesh = mesh_of((4,), AUTO)  # shapes are the same for every mesh
    return run(case, case.values(mesh, 0), functools.partial(case.values, mesh))


def assert_laid_out(case, mesh, params, state):
    placed = case.placed(mesh, 0)
    wanted = case.where(mesh), jopt.sharding.state_sharding(case.tx, placed, state=state)
    found = jax.tree.leaves_with_path((params, state))
    for (path, x), sharding in zip(found, jax.tree.leaves(wanted), strict=True):
        where = jax.tree_util.keystr(path)
        assert x.sharding.is_equivalent_to(sharding, x.ndim), (where, x.sharding.spec)


def types(tree):
    """Dtypes, shapes and how they are split, as `float32[8@f,16]`."""
    return jax.tree.map(lambda x: str(jax.typeof(x)), tree)


def furthest(found, wanted):
    """The leaf that differs most, in units of its largest value, and by how much."""
    leaves = zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True)
    worst, at = 0.0, ""
    for (path, x), y in leaves:
        x, y = np.asarray(x).astype(np.float64), np.asarray(y).astype(np.float64)
        off = np.abs(x - y).max(initial=0) / max(np.abs(y).max(initial=0), 1e-30)
        if not off <= worst:
            worst, at = off, jax.tree_util.keystr(path)
    return worst, at


def assert_types_stand_still(case):
    mesh = mesh_of((2, 2, 2), EXPLICIT)
    params = case.placed(mesh, 0)
    state = case.tx.init(params)
    after = jax.eval_shape(case.taken, params, state, case.placed(mesh, 1))
    assert types(after) == types((params, state))


@pytest.mark.sampled
@pytest.mark.parametrize("label", CASES)
def test_types_stand_still(label):
    assert_types_stand_still(CASES[label])


@pytest.mark.sampled
@pytest.mark.parametrize("label", CASES | STACKS)
def test_types_stand_still_where_the_mesh_is_set(label):
    # What is made anew, as zeros for a loop's first turn, is on the mesh there, and else on none.
    with jax.set_mesh(mesh_of((2, 2, 2), EXPLICIT)):
        assert_types_stand_still((CASES | STACKS)[label])


def test_rounds_where_the_mesh_is_set():
    with jax.set_mesh(mesh_of((2, 2), EXPLICIT)):
        check(replace(CASES["accumulate()"], ndims=(0, 2)), (2, 2), EXPLICIT)


def few(mesh):
    """Of the stacks those of which both are split, what numbers tensors and what they hold."""
    found = {k: {n: x for n, x in of.items() if n == "by_both"} for k, of in stacks(mesh).items()}
    return {**found, "qkv": {"by_column": stacks(mesh)["qkv"]["by_column"]}}


@pytest.mark.sampled
@pytest.mark.parametrize("label", STACKS)
def test_types_of_stacks_stand_still(label):
    assert_types_stand_still(replace(STACKS[label], layouts=few))


def check(case, shape, kind, plain=None, **how):
    mesh = mesh_of(shape, kind)
    params = case.placed(mesh, 0)
    if kind is AUTO:  # there the compiler is free to leave results where it likes
        how["where"] = case.where(mesh), jopt.sharding.state_sharding(case.tx, params)
    found = run(case, params, functools.partial(case.placed, mesh), **how)
    off, at = furthest(found, whole(plain or case))
    # In float64 what is summed in another order; else what XLA rounds once more or less.
    assert off <= (1e-11 if case.dtype == "float64" else 1e-6), at
    assert_laid_out(case, mesh, *found)


# What moves data of its own accord: matrices, inner products, rows. Few leaves each.
@pytest.mark.parametrize(
    ("label", "ndims"), [("muon", (2,)), ("lbfgs", (0, 1)), ("sparse_adam", (1, 3))]
)
def test_what_moves_data_on_explicit_axes(label, ndims):
    check(replace(CASES[label], ndims=ndims), (2, 2), EXPLICIT, donate=(0, 1))


def test_stacks_on_explicit_axes():
    check(replace(STACKS["stacks, adafactor"], layouts=few), (2, 2), EXPLICIT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["auto", "explicit"])
@pytest.mark.parametrize("shape", MESHES, ids=str)
@pytest.mark.parametrize("label", CASES | STACKS)
def test_every_case_on_every_mesh(label, shape, kind):
    case = (CASES | STACKS)[label]
    check(case, shape, kind, init=functools.partial(jopt.sharding.init, case.tx))


MATRICES = ["muon", "normuon", "dion2", "soap", "muon_adamw()", "matrices in all"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", MESHES, ids=str)
@pytest.mark.parametrize("label", MATRICES)
def test_matrices_told_how_they_lie(label, shape):
    case = CASES[label]
    told = jopt.sharding.laid_out(case.tx, case.placed(mesh_of(shape, AUTO), 0))
    born = functools.partial(jopt.sharding.init, told)
    check(replace(case, tx=told), shape, AUTO, plain=case, init=born)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["adamw", "muon", "lbfgs", "adafactor", "8 bits"])
def test_without_jit(label):
    case = CASES[label]
    born = functools.partial(jopt.sharding.init, case.tx)
    check(case, (2, 2), EXPLICIT, jit=False, init=born)
