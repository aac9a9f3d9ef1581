"""Routing: each leaf moves as it would alone with its own transform."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

PARAMS = {
    "embed": {"table": jnp.ones((6, 4))},
    "mlp": [{"kernel": jnp.ones((4, 8)), "bias": jnp.ones(8)}, {"kernel": jnp.ones((8, 4))}],
}


def gradients(seed):
    leaves, treedef = jax.tree.flatten(PARAMS)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, drawn)


def run(tx, params, steps=5, pick=lambda g: g):
    state = tx.init(params)
    step = jax.jit(tx.update)
    for i in range(steps):
        updates, state = step(pick(gradients(i)), state, params)
        params = jopt.apply_updates(params, updates)
    return params, state


def kernels(tree):
    return {"first": tree["mlp"][0]["kernel"], "second": tree["mlp"][1]["kernel"]}


def others(tree):
    return {"table": tree["embed"]["table"], "bias": tree["mlp"][0]["bias"]}


def test_every_leaf_moves_as_it_would_alone():
    both, _ = run(jopt.route(jopt.adamw(0.01), kernels=("kernel$", jopt.sgd(0.1, 0.9))), PARAMS)
    alone, _ = run(jopt.sgd(0.1, 0.9), kernels(PARAMS), pick=kernels)
    rest, _ = run(jopt.adamw(0.01), others(PARAMS), pick=others)
    jax.tree.map(np.testing.assert_array_equal, kernels(both), alone)
    jax.tree.map(np.testing.assert_array_equal, others(both), rest)


def test_muon_adamw_is_muon_and_adamw():
    both, state = run(jopt.recipes.muon_adamw(), PARAMS)
    muon = jopt.muon(2e-2, kernels="in_out")
    alone, _ = run(muon, kernels(PARAMS), pick=kernels)
    rest, _ = run(
        jopt.adamw(3e-4, b2=0.95, eps=1e-10, weight_decay=0.1), others(PARAMS), pick=others
    )
    jax.tree.map(np.testing.assert_array_equal, kernels(both), alone)
    jax.tree.map(np.testing.assert_array_equal, others(both), rest)
    inner = state["route"]["inner"]
    assert sorted(inner) == ["adamw", "muon"]
    assert jax.tree.map(jnp.shape, inner["muon"]["momentum_buffer"]) == {
        "mlp": {"0": {"kernel": (4, 8)}, "1": {"kernel": (8, 4)}}
    }


def test_routing_tells_where_each_leaf_goes():
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.recipes.muon_adamw())
    assert jopt.routing(tx, PARAMS) == {
        "embed/table": "rest",
        "mlp/0/bias": "rest",
        "mlp/0/kernel": "matrices",
        "mlp/1/kernel": "matrices",
    }
    with pytest.raises(jopt.ConfigError, match="routes nothing"):
        jopt.routing(jopt.sgd(), PARAMS)


def test_numbers_are_read_and_edited_by_route():
    tx = jopt.recipes.muon_adamw(0.02, adamw_learning_rate=3e-4)
    state = tx.init(PARAMS)
    assert sorted(jopt.hyperparams(state)) == ["route/adamw", "route/muon"]
    with pytest.raises(jopt.ConfigError, match="several transforms have 'learning_rate'"):
        jopt.set_hyperparams(state, learning_rate=0.1)
    state = jopt.set_hyperparams(state, label="route/muon", learning_rate=0.1)
    now = jopt.hyperparams(state)
    assert float(now["route/muon"]["default"]["learning_rate"]) == np.float32(0.1)
    assert float(now["route/adamw"]["default"]["learning_rate"]) == np.float32(3e-4)


def test_chains_and_foreign_transforms_can_be_routed_to():
    tx = jopt.route(
        jopt.chain(jopt.clip_by_global_norm(1.0), jopt.sgd(0.1)),
        kernels=("kernel$", jopt.chain(optax.trace(0.9), jopt.sgd(0.1))),
        table=("table$", jopt.sgd(0.5)),
    )
    params, state = run(tx, PARAMS)
    assert sorted(state["route"]["inner"]) == [
        "clip_by_global_norm",
        "foreign",
        "sgd",
        "sgd_2",
        "sgd_3",
    ]
    alone, _ = run(jopt.chain(optax.trace(0.9), jopt.sgd(0.1)), kernels(PARAMS), pick=kernels)
    jax.tree.map(np.testing.assert_array_equal, kernels(params), alone)


def test_a_leaf_without_gradient_is_skipped_in_its_route():
    tx = jopt.recipes.muon_adamw(skips="^mlp/0/bias$")
    grads = gradients(0)
    grads["mlp"][0] = {"kernel": None, "bias": None}
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    new = jopt.apply_updates(PARAMS, updates)
    jax.tree.map(np.testing.assert_array_equal, new["mlp"][0], PARAMS["mlp"][0])


def test_extend_adds_leaves_to_their_routes():
    tx = jopt.recipes.muon_adamw()
    _, state = run(tx, PARAMS)
    grown = {**PARAMS, "new": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}}
    wider = jopt.extend(tx, state, grown)["route"]["inner"]
    np.testing.assert_array_equal(wider["muon"]["momentum_buffer"]["new"]["kernel"], 0)
    old = state["route"]["inner"]
    jax.tree.map(
        np.testing.assert_array_equal, wider["adamw"]["mu"]["embed"], old["adamw"]["mu"]["embed"]
    )
    assert wider["adamw"]["leaf_count"] == {"new": {"bias": 0}}


def test_configuration():
    tx = jopt.recipes.muon_adamw(0.01)
    assert repr(tx) == "jopt.recipes.muon_adamw(learning_rate=0.01)"
    assert tx == jopt.recipes.muon_adamw(0.01) != jopt.recipes.muon_adamw(0.02)
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert hash(tx) == hash(jopt.recipes.muon_adamw(0.01))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: jopt.route(jopt.sgd(), default=("a", jopt.sgd())), "cannot be called"),
        (lambda: jopt.route(jopt.sgd(), a=jopt.sgd()), "route 'a' is no pair"),
        (lambda: jopt.route(jopt.sgd(), a=("x", jopt.sgd)), "this is no transform"),
    ],
)
def test_bad_routes(make, text):
    with pytest.raises(jopt.ConfigError, match=text):
        make()


def test_a_route_that_takes_nothing():
    with pytest.raises(jopt.GroupError, match="group 'a' matches no leaf"):
        jopt.route(jopt.sgd(), a=("nowhere", jopt.sgd())).init(PARAMS)
