"""`jopt.interop.optax.wrap`: jopt's transforms as optax's own type."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import jopt
from jopt.interop.optax import wrap
from tests.dropin.common import TRANSFORMS, assert_identical


def params_of(dtype="float32"):
    x = {"kernel": jnp.cos(jnp.arange(12.0)).reshape(3, 4), "bias": jnp.ones(4)}
    return jax.tree.map(lambda p: p.astype(dtype), x)


def value_fn(params):
    return sum(jnp.sum((p - 0.5) ** 2) for p in jax.tree.leaves(params))


def one_step(tx, params, state=None, grads=None, **extra):
    grads = params if grads is None else grads
    state = tx.init(params) if state is None else state
    return jax.jit(lambda g, s, p: tx.update(g, s, p, **extra))(grads, state, params)


@pytest.mark.parametrize("label", TRANSFORMS)
def test_in_float32_it_is_the_transform_itself(label):
    tx = TRANSFORMS[label]()
    wrapped = wrap(tx)
    assert isinstance(wrapped, optax.GradientTransformationExtraArgs)
    assert_identical(one_step(wrapped, params_of()), one_step(tx, params_of()))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_steps_have_the_gradients_dtype_and_the_state_keeps_its_own(dtype):
    tx, params = jopt.adamw(0.1), params_of(dtype)
    wide, state = one_step(tx, params)
    narrow, other = one_step(wrap(tx), params)
    assert_identical(narrow, jax.tree.map(lambda u: u.astype(dtype), wide))
    assert_identical(other, state)
    mixed = jax.tree.map(lambda g: g.astype("float32"), params)
    assert_identical(
        one_step(wrap(tx), params, grads=mixed)[0], one_step(tx, params, grads=mixed)[0]
    )


def test_leaves_without_gradient_and_rows_of_tables():
    tx = jopt.sgd(0.1)
    params = params_of("bfloat16")
    updates, _ = wrap(tx).update({**params, "bias": None}, tx.init(params), params)
    assert_identical(
        updates["bias"], tx.update({**params, "bias": None}, tx.init(params), params)[0]["bias"]
    )
    table = jnp.ones((5, 2), "bfloat16")
    rows = jopt.row_gradient(jnp.array([3]), jnp.ones((1, 2), "bfloat16"), table)
    adam = jopt.sparse_adam(0.1)
    update, _ = wrap(adam).update(rows, adam.init(table), table)
    assert update.data.dtype == jnp.bfloat16
    assert_identical(update.indices, adam.update(rows, adam.init(table), table)[0].indices)


def test_frozen_leaves_have_the_gradients_dtype_too():
    params = {**params_of("bfloat16"), "ids": jnp.arange(3)}
    tx = jopt.sgd(0.1, groups={"still": jopt.group("^(bias|ids)$", freeze=True)})
    for dtype in ("bfloat16", "float32"):
        grads = {**params_of(dtype), "ids": np.zeros(3, jax.dtypes.float0)}
        updates, _ = wrap(tx).update(grads, tx.init(params), params)
        assert {k: str(u.dtype) for k, u in updates.items()} == {
            "kernel": dtype,
            "bias": dtype,
            "ids": "int32",
        }
        assert not np.any(updates["bias"])


WRAPPERS = {
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "conditionally_transform": lambda tx: optax.conditionally_transform(tx, lambda s: s < 1),
    "conditionally_mask": lambda tx: optax.conditionally_mask(tx, lambda s: s < 1),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "chain": lambda tx: optax.chain(tx, optax.scale(1.0)),
    "masked": lambda tx: optax.masked(tx, True),
    "flatten": optax.flatten,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("label", WRAPPERS)
@pytest.mark.sampled
def test_optaxs_wrappers_take_it_in_every_dtype(label, dtype):
    tx, params = jopt.adam(0.1), params_of(dtype)
    wanted = one_step(wrap(tx), params)[0]
    assert_identical(one_step(WRAPPERS[label](wrap(tx)), params)[0], wanted)


LBFGS = jopt.lbfgs(max_iter=3, history_size=2)
PLATEAU = jopt.sgd(jopt.schedules.plateau(0.5, factor=0.5, patience=0))


@pytest.mark.parametrize("outer", ["chain", "MultiSteps", "masked", "apply_if_finite"])
def test_a_function_of_the_parameters_reaches_it(outer):
    params = params_of()
    grads = jax.grad(value_fn)(params)
    wanted, _ = one_step(LBFGS, params, grads=grads, value_fn=value_fn)
    tx = WRAPPERS[outer](wrap(LBFGS))
    found, _ = one_step(tx, params, grads=grads, value_fn=value_fn)
    for x, y in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_a_metric_reaches_a_plateau_through_two_of_them():
    tx = optax.MultiSteps(optax.chain(optax.clip(9.0), wrap(PLATEAU)), 1)
    params = params_of()
    state, rates = tx.init(params), []
    update = jax.jit(lambda s, value: tx.update(params, s, params, value=value)[1])
    for value in (2.0, 3.0, 4.0):
        state = update(state, jnp.float32(value))
        inner = state.inner_opt_state[1]
        rates.append(float(jopt.hyperparams(inner)["sgd"]["default"]["learning_rate"]))
    own, alone = PLATEAU.init(params), []
    for value in (2.0, 3.0, 4.0):
        own = PLATEAU.update(params, own, params, value=jnp.float32(value))[1]
        alone.append(float(jopt.hyperparams(own)["sgd"]["default"]["learning_rate"]))
    assert rates == alone
    assert rates[-1] < 0.5


def test_a_key_reaches_the_rounding_of_a_rule_outside():
    spec = jopt.Spec(name="noise", extra=("key",), steps=False)
    tx = jopt.leafwise(spec, lambda g, s, p, h: (g + jax.random.normal(h.key, g.shape), {}))
    params, key = params_of(), jax.random.key(3)
    found, _ = one_step(optax.chain(wrap(tx)), params, key=key)
    assert_identical(found, one_step(tx, params, key=key)[0])


@pytest.mark.parametrize("tx", [LBFGS, PLATEAU], ids=["value_fn", "value"])
def test_what_optax_drops_names_wrap(tx):
    name = tx.parts[tx.name].extra[0]
    params = params_of()
    chained = optax.chain(tx)
    with pytest.raises(jopt.ConfigError, match=rf"needs {name}=(.|\n)*jopt\.interop\.optax\.wrap"):
        chained.update(params, chained.init(params), params, **{name: value_fn})


def test_in_flax_and_through_every_step_it_trains_as_the_transform_alone():
    tx = jopt.adamw(0.1)
    layer, params = nn.Dense(2), {"params": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
    held = TrainState.create(apply_fn=layer.apply, params=params, tx=wrap(tx))
    after = held.apply_gradients(grads=params)
    updates, _ = tx.update(params, tx.init(params), params)
    assert_identical(after.params, jopt.apply_updates(params, updates))

    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    alone = nnx.clone(model)
    for m, made in ((model, wrap(tx)), (alone, tx)):
        optimizer = nnx.Optimizer(m, made, wrt=nnx.Param)
        grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones((1, 3))) ** 2))(m)
        optimizer.update(m, grads)
    assert_identical(model.kernel[...], alone.kernel[...])


def test_prints_compares_and_pickles_with_the_transform():
    made = wrap(jopt.sgd(0.1))
    assert made == wrap(jopt.sgd(0.1))
    assert made != wrap(jopt.sgd(0.2))
    assert hash(made) == hash(wrap(jopt.sgd(0.1)))
    assert pickle.loads(pickle.dumps(made)) == made
    assert "jopt.sgd(learning_rate=0.1)" in repr(made)
    assert " at 0x" not in repr(made)


def test_what_is_no_jopt_transform_is_refused():
    for other in (optax.sgd(0.1), jopt.sgd, {"sgd": {}}):
        with pytest.raises(jopt.ConfigError, match=r"wrap: this is no jopt transform"):
            wrap(other)
