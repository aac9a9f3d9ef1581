"""Many arrays of a shape, told jax in batches: the same numbers, from fewer equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jopt
from jopt.numerics import repeated
from jopt.numerics.repeated import in_batches

RNG = np.random.default_rng(0)
FEW, MOST = 4, 4
LAYERS = FEW + MOST // 2
NO_DECAY = {"no_decay": jopt.group("bias", weight_decay=0.0)}
TXS = {
    "clip+adamw": jopt.chain(jopt.clip_by_global_norm(0.1), jopt.adamw(0.1, groups=NO_DECAY)),
    "lamb": jopt.lamb(0.1),
    "clip+sgd": jopt.chain(jopt.clip_by_global_norm(0.1), jopt.sgd(0.1)),
}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(repeated, "FEW", FEW)
    monkeypatch.setattr(repeated, "MOST", MOST)


def tree():
    """Layers alike, and leaves that are few; one shape is small and one is not."""
    shapes = {"bias": (8,), "matrix": (8, 4)}
    layers = {f"layer{i}": shapes for i in range(LAYERS)} | {"large": (300, 256), "one": ()}
    return jax.tree.map(
        lambda s: RNG.normal(size=s).astype(np.float32), layers, is_leaf=lambda s: type(s) is tuple
    )


PARAMS, GRADS = tree(), tree()


def stepped(tx, params=PARAMS, grads=GRADS):
    state = tx.init(params)
    for _ in range(2):
        params, state = jopt.step(tx, grads, state, params)
    return params, state


def alone(monkeypatch, run, *args):
    """What a function gives if each array is told jax by itself."""
    with monkeypatch.context() as m:
        m.setattr(repeated, "FEW", 10**6)
        return run(*args)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", TXS)
def test_leaves_step_together_as_each_alone(name, monkeypatch):
    tx = TXS[name]
    together = jax.jit(lambda p, g: stepped(tx, p, g))(PARAMS, GRADS)
    equal(together, alone(monkeypatch, jax.jit(lambda p, g: stepped(tx, p, g)), PARAMS, GRADS))


def test_they_are_fewer_equations(monkeypatch):
    def equations():
        tx = TXS["clip+adamw"]
        made = jax.make_jaxpr(lambda p, g: jopt.step(tx, g, tx.init(p), p)[0])(PARAMS, GRADS)
        return len(made.eqns)

    # At least three a leaf: one for the rule, the others for what clipping does.
    assert equations() + 3 * 2 * LAYERS < alone(monkeypatch, equations)


def test_runs_side_by_side_and_derivatives_are_those_of_each_alone(monkeypatch):
    def total(params, grads, size):
        scaled = jax.tree.map(lambda g: g * size, grads)
        moved, _ = stepped(TXS["clip+sgd"], params, scaled)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(moved))

    sizes = jnp.array([1e-3, 1.0, 30.0])
    run = jax.vmap(jax.grad(total, argnums=1), in_axes=(None, None, 0))
    found = jax.jit(lambda p, g: run(p, g, sizes))(PARAMS, GRADS)
    want = alone(monkeypatch, jax.jit(lambda p, g: run(p, g, sizes)), PARAMS, GRADS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, want)
    assert all(np.any(np.asarray(x) != 0) for x in jax.tree.leaves(found))


@pytest.mark.parametrize("kind", ["Explicit", "Auto"])
def test_leaves_split_over_devices_step_as_on_one(kind):
    axes = (getattr(jax.sharding.AxisType, kind),)
    mesh = jax.make_mesh((4,), ("d",), axis_types=axes)

    def split(x):
        spec = PartitionSpec("d") if x.ndim else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh, spec))

    placed = [jax.tree.map(split, x) for x in (PARAMS, GRADS)]
    run = jax.jit(lambda p, g: stepped(TXS["clip+adamw"], p, g)[0])
    found, want = run(*placed), run(PARAMS, GRADS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), found, want)


def test_each_row_gets_what_it_has_in_common():
    rows = [jnp.full(3 + i % 2, float(i)) for i in range(3 * FEW)]
    factors = [jnp.float32(2.0), jnp.float32(-1.0)]

    def run(rows, factors):
        common = [factors[i // 5 % 2] for i in range(len(rows))]
        return in_batches(lambda x, f: x * f, rows, [x.shape for x in rows], common)

    want = [x * factors[i // 5 % 2] for i, x in enumerate(rows)]
    equal(jax.jit(run)(rows, factors), want)
    equal(run(rows, factors), want)


def test_few_and_untraced_are_left_to_whoever_does_them_alone():
    def run(x, count):
        return in_batches(lambda x, _: x + 1, [x] * count, ["a"] * count, alone=lambda x, _: x + 2)

    assert [float(x) for x in run(jnp.float32(0), FEW)] == [2] * FEW
    assert jax.jit(run, static_argnums=1)(0.0, FEW - 1) == [2] * (FEW - 1)
    assert jax.jit(run, static_argnums=1)(0.0, FEW) == [1] * FEW
