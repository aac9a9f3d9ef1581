"""nnx variables that hold nothing, several arrays, or what optax left out of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jopt


class Odd(nnx.Module):
    def __init__(self, several=True):
        rngs = nnx.Rngs(0)
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.lora = nnx.LoRA(2, 1, 3, rngs=rngs)
        self.nothing = nnx.Param(None)
        both = {"scale": jnp.ones(3), "shift": jnp.zeros(3)}
        self.several = nnx.Param(both) if several else both["scale"]

    def __call__(self, x):
        y = self.linear(x) + self.lora(x)
        if isinstance(self.several, nnx.Param):
            y = y * self.several["scale"][None] + self.several["shift"][None]
        return y


def loss(model):
    x = jnp.cos(jnp.arange(8.0)).reshape(4, 2)
    return jnp.mean((model(x) - jnp.sin(x[:, :1])) ** 2)


@nnx.jit
def train(model, optimizer):
    grads = nnx.grad(loss, argnums=nnx.DiffState(0, optimizer.wrt))(model)
    optimizer.update(model, grads)


def is_matrix(params):
    return jax.tree.map(lambda x: x.ndim == 2, params)


def labels(params):
    return jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "rest", params)


WITHIN = {
    "alone": lambda tx: tx,
    "masked": lambda tx: optax.masked(tx, is_matrix),
    "partition": lambda tx: optax.partition({"matrix": tx, "rest": optax.sgd(0.1)}, labels),
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(0.1), tx),
}


@pytest.mark.parametrize("wrt", [nnx.Param, nnx.LoRAParam], ids=lambda x: x.__name__)
@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.sampled
def test_they_take_the_steps_of_optax(within, wrt):
    def run(tx):
        # optax's masks do not bear a variable of several arrays.
        model = Odd(several=within not in ("masked", "partition"))
        optimizer = nnx.Optimizer(model, WITHIN[within](tx), wrt=wrt)
        for _ in range(2):
            train(model, optimizer)
        return nnx.to_pure_dict(nnx.state(model)), optimizer

    ours, optimizer = run(jopt.adamw(0.1))
    theirs, _ = run(optax.adamw(0.1, weight_decay=1e-2))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    state = nnx.to_pure_dict(nnx.state(optimizer))
    again = jopt.from_bytes(state, jopt.to_bytes(state))
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_a_variable_of_several_arrays_is_a_level_of_the_path():
    params = nnx.state(Odd(), nnx.Param)
    no_decay = jopt.group("^several/shift$", freeze=True)
    tx = jopt.route(jopt.adamw(0.1, groups={"no_decay": no_decay}), m=("kernel$", jopt.muon(0.1)))
    routes = jopt.routing(tx, params)
    assert routes["several/scale"] == routes["several/shift"] == "rest"
    assert routes["linear/kernel"] == "m"
    assert not [name for name in routes if name.startswith("nothing")]
    one = nnx.State({"a": nnx.Param({"x": jnp.ones(2)}), "b": nnx.Param(None)})
    tx = jopt.accumulate(jopt.adamw(0.1), 1)
    two = nnx.State({**one, "c": nnx.Param(jnp.ones(3))})
    state = jopt.extend(tx, tx.init(one), two)
    assert set(state["accumulate"]["sum"]) == {"a", "c"}
    after, _ = jopt.step(tx, two, state, two)
    assert jax.tree.structure(after) == jax.tree.structure(two)
