"""Matrices go whole to the devices that own them, and back, however they are split."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt.core.ownership import classes_of, lies, lies_of, on_owners
from tests.benchmarks.on_mesh import cost, laid, step
from tests.sharding.meshes import AUTO, EXPLICIT

ROOT = Path(jopt.__file__).parents[1]

# One class: wide and tall, odd sizes where nothing splits, axes that number matrices, split or not.
ARRAYS = [
    ((8, 24), P("f")),
    ((24, 8), P(None, "f")),
    ((8, 24), P("f", "t")),
    ((24, 8), P(("t", "f"))),
    ((8, 24), P(None, ("e", "t", "f"))),
    ((24, 8), P("e")),
    ((2, 3, 8, 24), P(None, None, "t")),
    ((4, 24, 8), P("e", "f")),
    ((8, 24), P()),
    ((5, 3), P()),
]


def mesh_of(kind):
    return jax.make_mesh((2, 2, 2), ("f", "t", "e"), axis_types=(kind,) * 3)


def placed(mesh):
    rng = np.random.default_rng(0)
    return [
        jax.device_put(rng.normal(size=shape), NamedSharding(mesh, spec)) for shape, spec in ARRAYS
    ]


def algebra(x, kept, by):
    """What only a whole matrix can have, and another thing for each row and column."""
    return jnp.cumsum(x, 1)[..., ::-1] * by, {}


def wanted(x):
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    y = np.cumsum(x, -2)[..., ::-1] * 2
    return y.swapaxes(-1, -2) if tall else y


@pytest.mark.parametrize("kind", [EXPLICIT, AUTO], ids=["explicit", "auto"])
def test_every_layout_goes_to_its_owners_and_back(kind):
    mesh = mesh_of(kind)
    xs = placed(mesh)
    told = [NamedSharding(mesh.abstract_mesh, spec) for _, spec in ARRAYS]

    @jax.jit
    def run(xs):
        found = [None] * len(xs)
        for cls in classes_of(xs, lies_of(xs, told), alike=True):
            mine = [xs[m.index] for m in cls.members]
            ys, _, _ = on_owners(algebra, cls, mine, [{}] * len(mine), {}, jnp.float32(2))
            for member, y in zip(cls.members, ys, strict=True):
                found[member.index] = y
        return found

    for x, y in zip(xs, run(xs), strict=True):
        np.testing.assert_allclose(y, wanted(np.asarray(x)), rtol=1e-5, atol=1e-5)
        assert y.sharding.is_equivalent_to(x.sharding, x.ndim)


def test_matrices_are_dealt_out_evenly_and_wide():
    xs = placed(mesh_of(EXPLICIT))
    found = classes_of(xs, lies_of(xs, [None] * len(xs)), alike=True)
    assert [(c.shape, c.count, c.devices, c.share) for c in found] == [
        ((8, 24), 13, 8, 2),
        ((8, 24), 2, 4, 1),  # of a leaf that experts have apart: none of its matrices leaves them
        ((3, 5), 1, 8, 1),
    ]
    assert [(c.stay, c.beyond) for c in found] == [
        ((), ()),
        (("e",), ("t",)),
        ((), ("f", "t", "e")),
    ]


SPEC = jopt.Spec(
    "grammed",
    (jopt.Hyper("learning_rate", "[0, inf)"),),
    (
        jopt.Slot("sum", owned=True),
        jopt.Slot("gram", lambda shape, _: (min(shape), min(shape)), owned=True),
        jopt.Slot("age", "scalar", owned=True),
        jopt.Slot("last"),
    ),
    gives="direction",
    ndim=2,
)


def rule(g, s, p, h):
    x = yield g
    return x + s.last, {"last": g}


def batch(x, s, h):
    age, gram = s.age + jnp.ones_like(s.age), s.gram / 2 + x @ x.mT
    total = s.sum / 2 + x
    return gram @ total / age[:, None, None], {"sum": total, "gram": gram, "age": age}


SHAPES = {"wide": (8, 12), "tall": (12, 8), "layers": (3, 12, 8), "heads": (8, 2, 6)}
SPLIT = {"wide": P("f"), "tall": P("f", "t"), "layers": P(None, "e"), "heads": P(None, "t")}
AXES = {"layers": "layer i o", "heads": "d (heads k)"}


def values(seed):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=shape).astype(np.float32) for k, shape in SHAPES.items()}


def grammed(**settings):
    return jopt.matrixwise(SPEC, rule, batch, alike=True, learning_rate=0.1, **settings)


def plain(seeds):
    """The same, a matrix at a time."""
    found = {}
    for name, p in values(0).items():
        p = p.reshape(-1, *((8, 12) if name == "heads" else p.shape[-2:]))
        moved = []
        for i, w in enumerate(p):
            total = gram = last = 0.0
            for age, seed in enumerate(seeds, 1):
                g = values(seed)[name].reshape(p.shape)[i]
                x = g.T if len(g) > len(g.T) else g
                gram, total = gram / 2 + x @ x.T, total / 2 + x
                d = gram @ total / age
                w = w - 0.1 * ((d.T if len(g) > len(g.T) else d) + last)
                last = g
            moved.append(w)
        found[name] = np.stack(moved).reshape(SHAPES[name])
    return found


@pytest.mark.parametrize("kind", [None, EXPLICIT, AUTO], ids=["whole", "explicit", "auto"])
def test_what_is_kept_beside_a_matrix_is_its_owners(kind):
    tx = grammed(axes=AXES)

    def put(tree):
        where = {k: NamedSharding(mesh_of(kind), spec) for k, spec in SPLIT.items()}
        return jax.device_put(tree, where)

    put = put if kind else lambda tree: tree
    if kind is AUTO:
        tx = jopt.sharding.laid_out(tx, put(values(0)))

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return jopt.apply_updates(params, updates), state

    params = put(values(0))
    state = tx.init(params) if kind is None else jopt.sharding.init(tx, params)
    if kind is not None:  # each device keeps an eighth, as of the matrix itself
        grams = state["grammed"]["gram"].values()
        assert all(x.addressable_shards[0].data.size * 8 == x.size for x in grams)
    for seed in (1, 2):
        params, state = step(params, state, put(values(seed)))
    for name, x in plain((1, 2)).items():
        np.testing.assert_allclose(params[name], x, rtol=1e-4, atol=1e-3)
    shapes = jax.tree.map(jnp.shape, state["grammed"]["gram"])
    assert shapes == {"wide": (8, 8), "tall": (8, 8), "layers": (3, 8, 8), "heads": (8, 8)}


def test_what_batch_gives_is_checked():
    params = {"w": np.ones((2, 3), np.float32)}
    bad = jopt.matrixwise(SPEC, rule, lambda x, s, h: x, learning_rate=0.1)
    with pytest.raises(jopt.ConfigError, match="other slots than it is given"):
        bad.update(params, bad.init(params), params)


def muon_step(kind, split, width=8, count=8, **settings):
    """Muon's step of so many matrices, wide and tall in turn, compiled for eight devices."""
    mesh = jax.make_mesh((2, 4), ("f", "t"), axis_types=(kind, kind))
    sizes = [(width, 2 * width), (2 * width, width)]
    shapes = {str(i): sizes[i % 2] for i in range(count)}
    params = laid(mesh, shapes, split)
    tx = jopt.sharding.laid_out(jopt.muon(0.1, ns_steps=1, **settings), params)
    return cost(step(tx, params)[0].as_text(), small=64), count * 2 * width**2


@pytest.mark.parametrize(
    ("kind", "split"),
    [
        (EXPLICIT, P("f", "t")),
        (AUTO, P(("f", "t"))),
        *(
            pytest.param(kind, split, marks=pytest.mark.slow)
            for kind in (EXPLICIT, AUTO)
            for split in (P(None, ("t", "f")), P("f"), P(None, "t"))
        ),
    ],
    ids=str,
)
def test_a_step_moves_gradient_and_direction_once(kind, split):
    found, numbers = muon_step(kind, split)
    over = {name for entry in split for name in (entry if isinstance(entry, tuple) else (entry,))}
    gathered = 1 if over >= {"f", "t"} else 2  # what is on several devices comes back to all
    assert found.counts == {"all-to-all": 2} | ({"all-gather": 1} if gathered > 1 else {})
    assert found.nbytes["all-to-all"] <= 2 * 2 * numbers / 8
    # Two products with each matrix, one with its Gram matrix; a device's share of eight.
    assert found.flops == 4 * 8**2 * 16 + 2 * 8**3


def test_groups_with_learning_rates_of_their_own_share_an_exchange():
    rates = {"few": jopt.group("^[0-3]$", learning_rate=0.2), "last": jopt.group("7", momentum=0.5)}
    found, _ = muon_step(EXPLICIT, P("f", "t"), groups=rates)
    assert found == muon_step(EXPLICIT, P("f", "t"))[0]


@pytest.mark.parametrize(
    "split",
    [
        P(("f", "t")),
        *(pytest.param(p, marks=pytest.mark.slow) for p in (P("f", "t"), P(None, "t"))),
    ],
    ids=str,
)
def test_a_matrix_too_large_for_one_device_stays_where_it_lies(split):
    mesh = jax.make_mesh((2, 4), ("f", "t"))
    tx = jopt.muon(0.1, ns_dtype="float32", ns_steps=2)
    rng = np.random.default_rng(0)
    params = {"embedding": rng.normal(size=(512, 4)).astype(np.float32)}
    placed = jax.device_put(params, NamedSharding(mesh, split))
    made = jax.jit(tx.update).lower(placed, tx.init(placed), placed).compile()
    found = cost(made.as_text(), small=32)
    if split == P(("f", "t")):
        assert found.counts == {"all-reduce": 1}  # of the Gram matrix
        assert found.flops < 5 * 2 * 4**2 * 512 / 4
    updates, _ = made(placed, tx.init(placed), placed)
    one, _ = jax.jit(tx.update)(params, tx.init(params), params)
    np.testing.assert_allclose(updates["embedding"], one["embedding"], rtol=0, atol=1e-6)


def test_how_matrices_lie_is_asked_once_a_trace(monkeypatch):
    mesh = jax.make_mesh((2, 4), ("f", "t"), axis_types=(EXPLICIT,) * 2)
    params = jax.device_put({"w": jnp.ones((8, 16))}, NamedSharding(mesh, P("f", "t")))
    tx = jopt.muon(0.1)
    state, asked, ask = tx.init(params), [], lies.free_names
    monkeypatch.setattr(lies, "free_names", lambda mesh: asked.append(mesh) or ask(mesh))
    jax.eval_shape(tx.update, params, state, params)
    assert len(asked) == 1


CASES = [((16,), P("f")), ((16,), P(None, "f")), ((4, 4), P("f", "t")), ((4, 4), P(("f", "t")))]


@pytest.mark.slow
@pytest.mark.parametrize("layers", [24, 32])
def test_a_gpt_on_sixteen_devices(layers):
    # A process of its own: this one has eight devices.
    command = [sys.executable, "-m", "tests.benchmarks.on_mesh", "--layers", str(layers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {line.partition(":")[0]: line for line in done.stdout.splitlines()}
    for sizes, spec in CASES:
        line = found[f"{sizes} {spec}"]
        assert "arithmetic 1.000, {'all-to-all': 4}" in line, line
        moved = float(re.search(r"([\d.]+) MB, temp", line)[1])
        assert moved <= 2 * 2 * layers * 12 * 1024**2 / 16 / 1e6 + 0.1
