"""jopt transforms inside optax, and optax transforms inside jopt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from tests.dropin.common import TRANSFORMS, assert_identical


def params_of():
    return {"kernel": jnp.cos(jnp.arange(12.0)).reshape(3, 4), "bias": jnp.ones(4)}


def grads_of(i):
    return jax.tree.map(lambda p: jnp.sin(3 * p + i), params_of())


def run(tx, *, apply=jopt.apply_updates, steps=4, extra=lambda i: {}):
    """Parameters and state after some compiled steps."""
    params = params_of()
    state = tx.init(params)

    @jax.jit
    def step(params, state, grads, extra):
        updates, state = tx.update(grads, state, params, **extra)
        return apply(params, updates), state

    for i in range(steps):
        params, state = step(params, state, grads_of(i), extra(i))
    return params, state


@pytest.mark.parametrize("label", TRANSFORMS)
def test_in_an_optax_chain(label):
    tx = TRANSFORMS[label]()
    params, state = run(optax.chain(optax.identity(), tx), apply=optax.apply_updates)
    wanted, own = run(tx)
    assert_identical(params, wanted)
    assert_identical(state[1], own)


def test_clipped_by_optax_before_jopt():
    clipped = optax.chain(optax.clip(0.5), jopt.adamw(1e-2))
    params, state = run(clipped, apply=optax.apply_updates)
    wanted, own = run(jopt.chain(jopt.clip_by_value(0.5), jopt.adamw(1e-2)))
    assert_identical(params, wanted)
    assert_identical(state[1]["adamw"], own["adamw"])


def test_in_multisteps_steps_once_in_every_k():
    tx = jopt.adamw(1e-2)
    params, state = run(
        optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation(),
        apply=optax.apply_updates,
    )
    assert int(state.inner_opt_state["adamw"]["count"]) == 2

    wanted, own = params_of(), tx.init(params_of())
    for i in (0, 2):
        first, second = grads_of(i), grads_of(i + 1)
        mean = jax.tree.map(lambda a, b: a + (b - a) / 2, first, second)
        updates, own = tx.update(mean, own, wanted)
        wanted = jopt.apply_updates(wanted, updates)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(wanted), strict=True):
        assert np.abs(np.asarray(x) - np.asarray(y)).max() <= 2e-7


def test_masked_leaves_are_none_of_its_business():
    tx = optax.masked(jopt.sgd(0.1, momentum=0.9), {"kernel": True, "bias": False})
    params, state = run(tx, apply=lambda p, u: {**p, "kernel": p["kernel"] + u["kernel"]})
    wanted, own = run(jopt.sgd(0.1, momentum=0.9))
    assert_identical(params["kernel"], wanted["kernel"])
    buffers = state.inner_state["sgd"]["momentum_buffer"]
    assert_identical(buffers, {"kernel": own["sgd"]["momentum_buffer"]["kernel"]})


def test_partitioned_by_optax():
    labels = {"kernel": "a", "bias": "b"}
    params, _ = run(
        optax.partition({"a": jopt.adamw(1e-2), "b": jopt.sgd(0.1)}, labels),
        apply=optax.apply_updates,
    )
    only = jopt.adamw(1e-2, groups={"rest": jopt.group("bias", freeze=True)})
    assert_identical(params["kernel"], run(only)[0]["kernel"])
    assert_identical(params["bias"], run(jopt.sgd(0.1))[0]["bias"])


def test_in_apply_if_finite():
    tx = jopt.adamw(1e-2)
    wrapped = optax.apply_if_finite(tx, max_consecutive_errors=3)
    params, state = params_of(), wrapped.init(params_of())
    bad = jax.tree.map(lambda g: g * jnp.nan, grads_of(0))
    updates, after = jax.jit(wrapped.update)(bad, state, params)
    assert_identical(after.inner_state, state.inner_state)
    assert all(not np.any(u) for u in jax.tree.leaves(updates))
    assert_identical(run(wrapped, apply=optax.apply_updates)[0], run(tx)[0])


FOREIGN = {
    "clip": lambda: optax.clip(0.5),
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(1.0),
    "adam": lambda: optax.adam(1e-2),
    "adamw": lambda: optax.adamw(optax.cosine_decay_schedule(1e-2, 100), weight_decay=0.1),
    "pieces": lambda: optax.chain(
        optax.clip(1.0),
        optax.scale_by_adam(),
        optax.add_decayed_weights(0.1),
        optax.scale_by_schedule(optax.linear_schedule(1.0, 0.0, 10)),
        optax.scale(-1e-2),
    ),
    "masked": lambda: optax.masked(optax.add_decayed_weights(0.1), {"kernel": True, "bias": False}),
    "injected": lambda: optax.inject_hyperparams(optax.sgd)(
        optax.linear_schedule(0.1, 0.0, 10), momentum=0.9
    ),
    "stateless": optax.identity,
}


@pytest.mark.parametrize("label", FOREIGN)
def test_optax_inside_a_jopt_chain_computes_what_it_does_alone(label):
    tx = FOREIGN[label]()
    params, state = run(jopt.chain(tx), apply=optax.apply_updates)
    wanted, own = run(tx, apply=optax.apply_updates)
    assert_identical(params, wanted)
    assert_identical(sorted_leaves(state["foreign"]), sorted_leaves(own))


def sorted_leaves(tree):
    """Leaves in an order that does not depend on the containers."""
    return sorted(map(np.asarray, jax.tree.leaves(tree)), key=lambda x: (x.shape, x.tobytes()))


def test_optax_between_jopt_transforms():
    tx = jopt.chain(jopt.clip_by_value(0.5), optax.scale(0.5), jopt.sgd(0.1))
    half = jopt.chain(jopt.clip_by_value(0.5), jopt.sgd(0.05))
    for x, y in zip(*map(jax.tree.leaves, (run(tx)[0], run(half)[0])), strict=True):
        assert np.abs(np.asarray(x) - np.asarray(y)).max() <= 2e-7


def test_extra_arguments_reach_the_optax_transforms_that_take_them():
    def extra(i):
        return {"value": jnp.float32([1.0, 2.0, 2.0, 2.0][i])}

    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1)
    inside = run(jopt.chain(optax.sgd(0.1), plateau), extra=extra)
    alone = run(optax.chain(optax.sgd(0.1), plateau), apply=optax.apply_updates, extra=extra)
    backwards = run(optax.chain(jopt.sgd(0.1), plateau), extra=extra)
    assert_identical(inside[0], alone[0])
    assert_identical(inside[1]["foreign_2"]["scale"], alone[1][1].scale)
    assert float(alone[1][1].scale) < 1
    assert_identical(backwards[1][1], alone[1][1])


def test_polyak_inside_jopt_sees_the_value():
    def extra(i):
        return {"value": jnp.float32(1.0 + i)}

    inside = run(jopt.chain(optax.polyak_sgd(1.0)), apply=optax.apply_updates, extra=extra)
    alone = run(optax.polyak_sgd(1.0), apply=optax.apply_updates, extra=extra)
    assert_identical(inside[0], alone[0])


def test_optax_numbers_are_not_jopts():
    tx = jopt.chain(optax.clip(1.0), jopt.adamw(1e-3))
    state = jopt.set_hyperparams(tx.init(params_of()), learning_rate=0.5)
    assert list(jopt.hyperparams(state)) == ["adamw"]
    with pytest.raises(jopt.ConfigError, match="there is no hyperparameter 'max_delta'"):
        jopt.set_hyperparams(state, max_delta=0.5)
