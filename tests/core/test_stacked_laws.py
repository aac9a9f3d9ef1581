"""Whatever looks at more than one entry looks at one tensor of a leaf with `axes=`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
import jopt.interop.optax as optax_states
import jopt.interop.torch as torch_states
from tests.catalog import CATALOG

LAYERS = 2
AXES = {"^stack/": "layer ..."}
LEAVES = {"bias": (5,), "kernel": (3, 4)}
UNITS = {"bias": (5,), "window": (2, 2, 3, 2)}
TRANSFORMS = {
    "clip_by_norm": lambda **k: jopt.clip_by_norm(1.0, **k),
    "clip_by_block_rms": lambda **k: jopt.clip_by_block_rms(0.5, **k),
    "clip_by_unit_norm": lambda **k: jopt.clip_by_unit_norm(0.5, **k),
    "centralize": lambda **k: jopt.centralize(**k),
    "adaptive_grad_clip": lambda **k: jopt.adaptive_grad_clip(0.1, **k),
    "mars": lambda **k: jopt.mars(jopt.sgd(0.1), **k),
}

WITHIN = {
    "accumulate": lambda **k: jopt.accumulate(jopt.novograd(0.1, **k), 2),
    "route": lambda **k: jopt.route(jopt.sgd(0.1), lamb=("kernel", jopt.lamb(0.1, **k))),
}


def told(entry):
    """Whether a rule sees single leaves of any shape, and more of each than one entry."""
    (part,) = entry.make().parts.values()
    return part.looks and part.spec.sparse == "no" and len(entry.ndims) > 1


OPTIMIZERS = {entry.name: entry.make for entry in CATALOG if told(entry)}
MAKERS = OPTIMIZERS | TRANSFORMS | WITHIN
RUN_ELSEWHERE = {"adafactor", "novograd", "lars", "lamb", "clip_by_norm"}  # in test_stacks.py


def tree(seed, shapes, *more, dtype=np.float64):
    rng = np.random.default_rng(seed)
    drawn = {k: rng.normal(size=(*more, LAYERS, *n)) for k, n in shapes.items()}
    return {"stack": {k: jnp.asarray(x, dtype) for k, x in drawn.items()}}


def apart(tree, axis=0):
    """The same, one tensor a leaf."""
    return {
        "stack": {
            k: [jnp.take(x, i, axis) for i in range(LAYERS)] for k, x in tree["stack"].items()
        }
    }


def trained(tx, params, grads):
    """The sums of the parameters and all updates."""

    def one(at, grads):
        params, state = at
        updates, state = tx.update(grads, state, params)
        return (jopt.apply_updates(params, updates), state), None

    return jax.lax.scan(one, (params, tx.init(params)), grads)[0][0]


def assert_equal_tensors(stacked, single, **bounds):
    for a, b in zip(jax.tree.leaves(apart(stacked)), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(a, b, **bounds)


def test_the_laws_meet_what_takes_axes():
    assert {"adafactor", "fromage", "lamb", "lars", "novograd", "sm3"} <= OPTIMIZERS.keys()


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in RUN_ELSEWHERE else ()) for n in MAKERS]
)
def test_a_stack_moves_as_its_tensors(x64, name):
    shapes = UNITS if name in TRANSFORMS else LEAVES
    params, grads = tree(0, shapes), tree(1, shapes, 2)

    @jax.jit
    def both(params, grads):
        mine = trained(MAKERS[name](axes=AXES), params, grads)
        return mine, trained(MAKERS[name](), apart(params), apart(grads, 1))

    assert_equal_tensors(*both(params, grads), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_rounded_slots_of_a_stack_are_those_of_its_tensors(kind):
    # A tensor is of whole blocks, so the layers share none.
    shapes = {"wide": (64, 64)}
    stacked, single = (jopt.lamb(0.1, state_dtype=kind, **k) for k in ({"axes": AXES}, {}))
    params, grads = (tree(seed, shapes, dtype=np.float32) for seed in (0, 1))
    mine = stacked.update(grads, stacked.init(params), params)
    one = single.update(apart(grads), single.init(apart(params)), apart(params))
    assert_equal_tensors(mine[0], one[0], rtol=1e-5)
    # By dither an entry may lie one step of its code further.
    steps = {"rtol": 2**-7} if kind == "bfloat16" else {"atol": 1}
    for slot in ("mu", "nu"):
        held, other = (state["lamb"][slot]["stack"]["wide"] for state in (mine[1], one[1]))
        for name in held if kind == "int8" else ("",):
            rows = [other[str(i)][name] if name else other[str(i)] for i in range(LAYERS)]
            got = np.asarray(held[name] if name else held, np.float32)
            want = np.stack([np.asarray(x, np.float32) for x in rows]).reshape(got.shape)
            np.testing.assert_allclose(got, want, **(steps if name != "scale" else {"rtol": 1e-6}))


def test_a_stack_that_joins_late_trains_as_its_tensors(x64):
    params, grads = (tree(seed, LEAVES) for seed in (0, 1))
    before = {"stack": {"bias": params["stack"]["bias"]}}
    results = []
    for tx, seen in ((jopt.novograd(0.1, axes=AXES), lambda t: t), (jopt.novograd(0.1), apart)):
        _, state = tx.update(seen(before), tx.init(seen(before)), seen(before))
        state = jopt.extend(tx, state, seen(params))
        results.append(tx.update(seen(grads), state, seen(params))[0])
    assert_equal_tensors(*results, rtol=1e-12)


FACTORED = jopt.adafactor(axes=AXES)
NOVOGRAD = jopt.novograd(1e-3, axes=AXES)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda p: jopt.sparse_adam(axes=AXES), "a table is no stack"),
        (lambda p: jopt.lbfgs(axes=AXES), "no argument 'axes'"),
        (lambda p: jopt.cautious(jopt.adam(), axes=AXES), "no argument 'axes'"),
        (
            lambda p: optax_states.import_state(NOVOGRAD, p, optax.novograd(1e-3).init(p)),
            "without axes=",
        ),
        (
            lambda p: optax_states.export_state(
                NOVOGRAD, p, NOVOGRAD.init(p), optax.novograd(1e-3).init(p)
            ),
            "without axes=",
        ),
        (
            lambda p: torch_states.export_optimizer(FACTORED, p, FACTORED.init(p)),
            "of several tensors",
        ),
    ],
)
def test_where_there_are_no_stacks_axes_are_refused(made, said):
    with pytest.raises(jopt.JoptError, match=said):
        made(tree(0, LEAVES, dtype=np.float32))
