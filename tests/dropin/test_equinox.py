"""With an Equinox model: filtered parameters, `None` leaves, module attributes as paths."""

import equinox as eqx
import jax
import numpy as np
import pytest

import jopt
from tests.dropin.common import TRANSFORMS, assert_identical, batch, loss_of


class Net(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    last: eqx.nn.Linear
    act: object
    scale: float

    def __init__(self):
        a, b = jax.random.split(jax.random.key(0))
        self.first = eqx.nn.Linear(4, 8, key=a)
        self.norm = eqx.nn.LayerNorm(8)
        self.last = eqx.nn.Linear(8, 2, key=b)
        self.act = jax.nn.relu
        self.scale = 0.5

    def __call__(self, x):
        return self.scale * self.last(self.act(self.norm(self.first(x))))


def loss(model):
    x, y = batch()
    return loss_of(jax.vmap(model)(x), y)


def run(tx, apply, steps=4):
    model = Net()
    state = tx.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(loss)(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_array))
        return apply(model, updates), state

    for _ in range(steps):
        model, state = step(model, state)
    return eqx.filter(model, eqx.is_array), state


def with_jopt(model, updates):
    arrays, rest = eqx.partition(model, eqx.is_array)
    return eqx.combine(jopt.apply_updates(arrays, updates), rest)


@pytest.mark.optimized  # bits of two programs are compared
@pytest.mark.parametrize("label", TRANSFORMS)
def test_equals_a_loop_over_plain_dicts(label):
    tx = TRANSFORMS[label]()
    model, state = run(tx, eqx.apply_updates)
    assert_identical((model, state), run(tx, with_jopt))

    arrays, rest = eqx.partition(Net(), eqx.is_array)
    treedef = jax.tree.structure(arrays)
    names = ["first/weight", "first/bias", "norm/weight", "norm/bias", "last/weight", "last/bias"]
    params = nested(dict(zip(names, jax.tree.leaves(arrays), strict=True)))

    def value_of(params):
        leaves = [params[a][b] for a, b in (name.split("/") for name in names)]
        return loss(eqx.combine(treedef.unflatten(leaves), rest))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(value_of)(params), state, params)
        return jopt.apply_updates(params, updates), state

    plain = tx.init(params)
    for _ in range(4):
        params, plain = step(params, plain)
    assert_identical(state, plain)
    for name, leaf in zip(names, jax.tree.leaves(model), strict=True):
        a, b = name.split("/")
        assert np.array_equal(leaf, params[a][b]), name


def nested(flat):
    tree = {}
    for name, x in flat.items():
        a, b = name.split("/")
        tree.setdefault(a, {})[b] = x
    return tree


def test_slots_are_named_by_attribute():
    _, state = run(jopt.adam(1e-3), eqx.apply_updates, steps=1)
    assert {k: sorted(v) for k, v in state["adam"]["mu"].items()} == {
        "first": ["bias", "weight"],
        "last": ["bias", "weight"],
        "norm": ["bias", "weight"],
    }


def test_an_unfiltered_model_is_refused_with_advice():
    with pytest.raises(jopt.TreeError) as error:
        jopt.adam(1e-3).init(Net())
    assert str(error.value) == (
        "adam: a leaf is no array\n"
        "  at:       act\n"
        "  expected: an array\n"
        "  found:    custom_jvp\n"
        "  Take the arrays out first, e.g. equinox.filter(model, equinox.is_array)."
    )
