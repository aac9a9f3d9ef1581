"""Inner products and norms that are asked for together: in one look, and one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jopt
from jopt.numerics import L1, Dot, Norm, together
from jopt.numerics.pieces import SMALL
from tests.sharding.meshes import AUTO, EXPLICIT

SHAPES = [(24, 4096), (40,), (), (0,), (16, 16), *[(24, 4096), (40,), (0,)] * 3]
assert SMALL < 24 * 4096


def draw(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(scale * rng.normal(size=s), jnp.float32) for s in SHAPES]


def asked(x, y):
    dot, (factor, norm), l1, cross = together(Dot(x, y), Norm(x), L1(y), Dot(y, y))
    return dot, norm / factor, l1, cross


def float64(x, y):
    x, y = (np.concatenate([np.ravel(np.asarray(a, np.float64)) for a in v]) for v in (x, y))
    return x @ y, np.linalg.norm(x), np.abs(y).sum(), y @ y


@pytest.fixture(params=["cpu", "tpu", "default"])
def look(request, monkeypatch):
    """One platform's way of everything that depends on it."""

    def chosen(*xs, **ways):
        return ways[request.param](*xs)

    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    jax.clear_caches()  # of the programs of another way
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("look")
def test_sums_are_right_whichever_way_and_norms_of_any_size():
    run, y = jax.jit(asked), draw(1)
    for scale in (1.0, 1e25, 1e-25):
        x = draw(0, scale)
        for found, true in zip(run(x, y), float64(x, y), strict=True):
            np.testing.assert_allclose(found, true, rtol=1e-5)


@pytest.mark.parametrize("look", ["default"], indirect=True)
@pytest.mark.usefixtures("look")
def test_derivatives_are_those_of_the_formulas():
    x, y = draw(0), draw(1)
    dx, dy = jax.jit(jax.grad(lambda x, y: sum(asked(x, y)), (0, 1)))(x, y)
    norm = float64(x, y)[1]
    for a, b, da, db in zip(x, y, dx, dy, strict=True):
        np.testing.assert_allclose(da, b + a / norm, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(db, a + jnp.sign(b) + 2 * b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("look", ["default"], indirect=True)
@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["automatic", "explicit"])
def test_split_arrays_have_the_sums_of_whole_ones(kind):
    mesh = jax.make_mesh((2, 4), ("f", "t"), axis_types=(kind, kind))
    x, y = draw(0), draw(1)

    def placed(v):
        specs = {24: PartitionSpec("f", "t"), 40: PartitionSpec("t")}
        of = [specs.get(len(a) if a.ndim else 1, PartitionSpec()) for a in v]
        return [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(v, of, strict=True)]

    with jax.set_mesh(mesh):
        found = jax.jit(asked)(placed(x), placed(y))
    for one, true in zip(found, float64(x, y), strict=True):
        np.testing.assert_allclose(one, true, rtol=1e-5)


@pytest.mark.slow
def test_optimizers_step_the_same_by_sums_in_one_look(monkeypatch):
    params, grads = ({str(i): x for i, x in enumerate(draw(seed)[1:])} for seed in (0, 1))
    made = [
        jopt.dog(weight_decay=0.1),
        jopt.dowg(),
        jopt.momo(),
        jopt.momo_adam(weight_decay=0.1),
        jopt.dadapt_adamw(estim_lr0=1e-2),
        jopt.prodigy(estim_lr0=1e-2, weight_decay=0.1),
    ]

    def two_steps(params, grads):
        found = []
        for tx in made:
            p, state = params, tx.init(params)
            for _ in range(2):
                more = {"value": 1.0} if "momo" in next(iter(tx.parts)) else {}
                updates, state = tx.update(grads, state, p, **more)
                p = jopt.apply_updates(p, updates)
            found.append((p, state))
        return found

    want = jax.jit(two_steps)(params, grads)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *xs, **ways: ways["default"](*xs))
    found = jax.jit(lambda *xs: two_steps(*xs))(params, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, want)
