"""Meshes of the eight simulated devices, and parameters placed on them."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit

SPECS = {
    "row": {"w": P("model"), "b": P(), "deep": {"k": P(None, "model")}},
    "column": {"w": P(None, "model"), "b": P("model"), "deep": {"k": P(None, None, "model")}},
    "both": {"w": P("data", "model"), "b": P("model"), "deep": {"k": P("model", None, "data")}},
    "joint": {"w": P(("data", "model")), "b": P(), "deep": {"k": P(None, ("model", "data"))}},
    "replicated": {"w": P(), "b": P(), "deep": {"k": P()}},
}


def mesh_of(data, model, kind=AUTO):
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(kind, kind))


def host_params():
    def wave(*shape):
        return np.cos(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)

    return {"w": wave(32, 64), "b": wave(64), "deep": {"k": wave(8, 8, 64)}}


def host_grads(step):
    return jax.tree.map(lambda p: np.sin(3 * p + step).astype(np.float32), host_params())


def shardings(mesh, name):
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS[name], is_leaf=is_spec)


def is_spec(x):
    return isinstance(x, P)


def put(tree, mesh, name):
    return jax.tree.map(jax.device_put, tree, shardings(mesh, name))


def shapes(params):
    return jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding), params
    )


def specs(tree):
    """The PartitionSpecs of a tree of shardings, without the Nones at their ends."""

    def one(sharding):
        entries = list(sharding.spec)
        while entries and entries[-1] is None:
            entries.pop()
        return P(*entries)

    return jax.tree.map(one, tree)


def equivalent(found, wanted):
    """Whether every array of `found` lies where `wanted` says."""
    same = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), found, wanted)
    return all(jax.tree.leaves(same))


def identical(a, b):
    same = jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b)
    return all(jax.tree.leaves(same))


def distance(a, b):
    """The largest difference of two trees, each leaf's in units of its largest value."""

    def one(x, y):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        return float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30))

    return max(jax.tree.leaves(jax.tree.map(one, a, b)))


def factored(**settings):
    """One slot of every shape rule: like, row, column, scalar, a history, a vector of columns."""
    return jopt.leafwise(FACTORED, _rule, learning_rate=0.1, **settings)


FACTORED = jopt.Spec(
    "factored",
    (jopt.Hyper("learning_rate", "[0, inf)"),),
    (
        jopt.Slot("m"),
        jopt.Slot("r", "row"),
        jopt.Slot("c", "column"),
        jopt.Slot("n", "scalar"),
        jopt.Slot("past", lambda shape, options: (3, *shape)),
        jopt.Slot("v", lambda shape, options: shape[-1:]),
        jopt.Slot("left", lambda shape, options: (shape[0] + 1, shape[0] + 1)),
    ),
)


def _rule(g, s, p, h):
    new = {
        "m": 0.9 * s.m + g,
        "r": 0.9 * s.r + (g * g).mean(-1, keepdims=True),
        "c": 0.9 * s.c + (g * g).mean(-2, keepdims=True),
        "n": s.n + abs(g).max(),
        "past": jax.numpy.concatenate([s.past[1:], g[None]]),
        "v": s.v + g.sum(range(g.ndim - 1)),
        "left": s.left + 1,
    }
    return -h.learning_rate * g / (1e-3 + (new["r"] * new["c"]) ** 0.5), new
