"""What optax's own tests ask of each of its optimizers, asked of jopt's under the same names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.interop.optax import wrap

WARM = jopt.schedules.linear(0.0, 1e-2, 5000)

# Names and numbers as in optax's tables of optimizers to test, but for what jopt calls otherwise.
UNDER_TEST = {
    "adabelief": lambda: jopt.adabelief(1e-2),
    "adadelta": lambda: jopt.adadelta(0.1),
    "adafactor": lambda: jopt.adafactor(5e-3),
    "adagrad": lambda: jopt.adagrad(1.0),
    "adam": lambda: jopt.adam(1e-1),
    "adamax": lambda: jopt.adamax(1e-1),
    "adamaxw": lambda: jopt.adamax(1e-1, weight_decay=1e-4, decoupled=True),
    "adamw": lambda: jopt.adamw(1e-1, weight_decay=1e-4),
    "adan": lambda: jopt.adan(1e-1),
    "amsgrad": lambda: jopt.adam(1e-1, amsgrad=True),
    "fromage": lambda: jopt.fromage(5e-3),
    "lamb": lambda: jopt.lamb(1e-3),
    "lars": lambda: jopt.lars(1.0),
    "lion": lambda: jopt.lion(1e-2, weight_decay=1e-4),
    "nadam": lambda: jopt.nadam(1e-2),
    "nadamw": lambda: jopt.nadam(1e-2, weight_decay=1e-4, decoupled=True),
    "noisy_sgd": lambda: jopt.noisy_sgd(1e-3, 1e-4, key=0),
    "novograd": lambda: jopt.novograd(1e-3),
    "optimistic_adam": lambda: jopt.optimistic_adam(2e-3),
    "optimistic_adam_v2": lambda: jopt.optimistic_adam_v2(2e-3),
    "optimistic_gradient_descent": lambda: jopt.optimistic_gradient_descent(2e-3, 0.7, 0.1),
    "polyak_sgd": lambda: jopt.polyak_sgd(max_learning_rate=1.0),
    "radam": lambda: jopt.radam(5e-3),
    "rmsprop": lambda: jopt.rmsprop(5e-3),
    "rmsprop, momentum": lambda: jopt.rmsprop(5e-3, momentum=0.9),
    "rprop": lambda: jopt.rprop(1e-1),
    "sgd": lambda: jopt.sgd(1e-3, momentum=0.9),
    "sign_sgd": lambda: jopt.sign_sgd(1e-1),
    "signum": lambda: jopt.signum(1e-2),
    "sm3": lambda: jopt.sm3(1.0),
    "yogi": lambda: jopt.yogi(1e-1),
    "acprop": lambda: jopt.acprop(1e-3),
    "ademamix": lambda: jopt.ademamix(1e-3),
    "simplified_ademamix": lambda: jopt.simplified_ademamix(1e-3),
    "adopt": lambda: jopt.adopt(1e-2),
    "cocob": jopt.cocob,
    "cocob, decay": lambda: jopt.cocob(weight_decay=1e-2),
    "dadapt_adamw": lambda: jopt.dadapt_adamw(1e-1),
    "dog": lambda: jopt.dog(1.0),
    "dowg": lambda: jopt.dowg(1.0),
    "madgrad": lambda: jopt.madgrad(1e-2),
    "momo": lambda: jopt.momo(1e-1),
    "momo_adam": lambda: jopt.momo_adam(1e-1),
    "muon": lambda: jopt.recipes.muon_adamw(1e-2, weight_decay=0.0, adamw_learning_rate=1e-2),
    "prodigy": lambda: jopt.prodigy(1e-1),
    "sophia": lambda: jopt.sophia(1e-2, weight_decay=1e-4),
    "schedule_free_sgd": lambda: jopt.schedule_free(jopt.sgd(WARM), WARM),
    "schedule_free_adamw": lambda: jopt.schedule_free(
        jopt.rmsprop(WARM, 0.999, bias_correction=True, decoupled=True), WARM
    ),
    "schedule_free": lambda: jopt.schedule_free(jopt.sgd(1e-2), 1e-2),
    "galore": lambda: jopt.galore(jopt.adam(1e-2), rank=8),
    "mechanize": lambda: jopt.mechanize(jopt.sgd(1e-1), weight_decay=0.0),
    "reduce_on_plateau": lambda: optax.chain(
        wrap(jopt.sgd(1e-3)), optax.contrib.reduce_on_plateau()
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", UNDER_TEST)

START, END = jnp.array([-1.0, 10.0, 1.0]), jnp.array([1.0, -1.0, 1.0])
VALLEY = jnp.array([0.0, 0.0]), jnp.array([1.0, 1.0])


def parabola(p):
    return jnp.sum((p - END) ** 2)


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def squares(p):
    return sum(jnp.sum(abs(x).astype("float32") ** 2) for x in jax.tree.leaves(p))


def taking(name):
    """The transform as optax's own type, so that the loss reaches what asks for it."""
    tx = UNDER_TEST[name]()
    return wrap(tx) if isinstance(tx, jopt.Transform) else tx


def gone(tx, loss, start, steps):
    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, obj_fn=loss)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=steps)[0])
    params, state = run(start)
    try:
        return jopt.eval_params(state, params)
    except jopt.JoptError:  # it keeps no average
        return params


@pytest.mark.parametrize("name", [name for name in UNDER_TEST if name != "muon"])
@pytest.mark.parametrize("of", ["parabola", "rosenbrock"])
@pytest.mark.sampled
def test_it_finds_the_minimum(name, of):
    if of == "rosenbrock" and name in ("sign_sgd", "signum"):
        of = "parabola"  # as optax's: in the valley they need a rate that falls
    loss, start, end = (parabola, START, END) if of == "parabola" else (rosenbrock, *VALLEY)
    steps = 10_000 if hasattr(optax, name.split(",")[0]) else 30_000
    found = gone(taking(name), loss, start, steps)
    np.testing.assert_allclose(found, end, rtol=3e-2, atol=3e-2)


@pytest.mark.slow
def test_muon_finds_that_of_matrices():
    end = {"w": jnp.array([[3.0, -2.0], [1.0, 4.0]]), "b": jnp.array([1.0, -1.0])}

    def loss(p):
        return sum(jnp.sum((p[k] - x) ** 2) for k, x in end.items())

    found = gone(taking("muon"), loss, jax.tree.map(jnp.zeros_like, end), 30_000)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-2, atol=3e-2), found, end)


@EACH
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
@pytest.mark.sampled
def test_updates_and_state_keep_their_dtypes_in_a_branch(name, dtype):
    if dtype == "complex64" and name in ("galore", "muon", "sm3"):
        dtype = "float32"  # none has a rule for complex numbers, nor has optax's
    tx = taking(name)
    params = {"w": jnp.ones((2, 3), dtype)}
    state = tx.init(params)

    def one(grads, state, go, value):
        updates, new = jax.lax.cond(
            go,
            lambda: tx.update(grads, state, params, value=value, obj_fn=squares),
            lambda: (grads, state),
        )
        return updates, new

    value = jnp.ones((), "float32")
    updates, new = jax.eval_shape(one, params, state, True, value)
    assert updates["w"].dtype == dtype
    assert jax.tree.structure(new) == jax.tree.structure(state)
    again = jax.eval_shape(one, params, new, True, value)[1]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), again) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )


@EACH
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.sampled
def test_multisteps_waits_and_masked_leaves_alone(name, dtype):
    tx = taking(name)
    params = {"w": jnp.ones((2, 3), dtype), "b": jnp.ones(3, dtype)}
    grads = jax.tree.map(lambda p: 2 * p, params)
    many = optax.MultiSteps(tx, every_k_schedule=4)
    some = optax.masked(tx, {"w": True, "b": False})

    def both(grads, a, b):
        value = jnp.float32(1.0)
        waits, _ = many.update(grads, a, params, value=value, obj_fn=squares)
        only, _ = optax.with_extra_args_support(some).update(
            grads, b, params, value=value, obj_fn=squares
        )
        return waits, only

    with jax.numpy_dtype_promotion("standard"):
        waits, only = jax.jit(both)(grads, many.init(params), some.init(params))
    assert not any(np.any(x) for x in jax.tree.leaves(waits))
    np.testing.assert_array_equal(only["b"], grads["b"])
    assert only["w"].dtype == params["w"].dtype
