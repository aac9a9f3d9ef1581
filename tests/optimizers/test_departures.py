"""Where jopt follows the mathematics and torch does not, and what it refuses."""

from __future__ import annotations

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.numerics.rectified import averaged_length


def final(tx, p, grads):
    def step(carry, g):
        p, state = carry
        updates, state = tx.update(g, state, p)
        return (jopt.apply_updates(p, updates), state), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), grads)[0])(p)


def torch_final(kind, p, grads, **kwargs):
    p = torch.tensor(np.asarray(p), requires_grad=True)
    opt = kind([p], **kwargs)
    for g in np.asarray(grads):
        p.grad = torch.tensor(g)
        opt.step()
    return p.detach().numpy()


def test_centered_rmsprop_of_a_constant_gradient_stays_finite():
    p, grads = jnp.zeros(1), jnp.full((200, 1), 3.0)
    kwargs = {"alpha": 0.9, "centered": True}
    assert np.isnan(torch_final(torch.optim.RMSprop, p, grads, **kwargs)).all()
    after, state = final(jopt.rmsprop(decay=0.9, centered=True), p, grads)
    assert np.isfinite(np.asarray([after, state["rmsprop"]["nu"], state["rmsprop"]["mu"]])).all()
    assert after[0] < 0


def test_rmsprop_with_its_bias_undone_is_adamw_without_a_momentum():
    p, grads = jnp.linspace(-1.0, 1.0, 4), jnp.sin(jnp.arange(40.0)).reshape(10, 4)
    tx = jopt.rmsprop(0.1, 0.9, bias_correction=True, weight_decay=0.1, decoupled=True)
    after, state = final(tx, p, grads)
    want, of_adamw = final(jopt.adamw(0.1, 0.0, 0.9, weight_decay=0.1), p, grads)
    np.testing.assert_allclose(after, want, rtol=1e-6)
    np.testing.assert_array_equal(state["rmsprop"]["nu"], of_adamw["adamw"]["nu"])
    with pytest.raises(jopt.TreeError, match="skips="):
        tx.update(None, state, p)
    for odd in ({"centered": True}, {"decay": 1.0}):
        with pytest.raises(jopt.ConfigError, match="a mean square that moves"):
            jopt.rmsprop(bias_correction=True, **odd)


@pytest.mark.parametrize("momentum", [0, 0.0])
def test_rmsprop_without_momentum_has_none_in_its_state(momentum):
    state = jopt.rmsprop(momentum=momentum).init(jnp.ones(2))["rmsprop"]
    assert state.keys() == {"count", "given", "hyperparams", "nu"}
    assert "momentum" not in state["hyperparams"]["default"]
    state = jopt.rmsprop(momentum=0.5, centered=True).init(jnp.ones(2))["rmsprop"]
    assert state.keys() == {"count", "given", "hyperparams", "nu", "mu", "momentum_buffer"}


def test_rprop_compares_signs_that_a_product_would_lose():
    # 1e-30 · 1e-30 is 0 in float32: torch leaves the step size as it is.
    p, grads = jnp.zeros(1), jnp.full((2, 1), 1e-30)
    ours, _ = final(jopt.rprop(0.1), p, grads)
    theirs = torch_final(torch.optim.Rprop, p, grads, lr=0.1)
    np.testing.assert_allclose(ours, [-0.1 - 0.12], rtol=1e-6)
    np.testing.assert_allclose(theirs, [-0.1 - 0.1], rtol=1e-6)


@pytest.mark.parametrize("groups", [False, True])
def test_rprop_refuses_a_schedule_for_its_learning_rate(groups):
    schedule = jopt.schedules.constant(0.1)
    head = jopt.group("head", learning_rate=schedule)
    arguments = {"groups": {"head": head}} if groups else {"learning_rate": schedule}
    with pytest.raises(jopt.ConfigError) as caught:
        jopt.rprop(**arguments)
    where = " of group 'head'" if groups else ""
    assert str(caught.value).startswith(
        f"rprop: learning_rate{where} is read only once, so a schedule could not act\n"
        "  expected: a number in [0, inf)\n"
        "  found:    jopt.schedules.constant("
    )


def test_rprop_refuses_bounds_that_exclude_each_other():
    with pytest.raises(jopt.ConfigError, match=r"rprop: no step size fits\n.*<= max_step_size"):
        jopt.rprop(min_step_size=1.0, max_step_size=0.1)


def test_rprop_bounds_may_be_scheduled():
    shrinking = jopt.schedules.linear(1.0, 0.01, 3)
    _, state = final(jopt.rprop(0.5, max_step_size=shrinking), jnp.zeros(1), jnp.ones((4, 1)))
    np.testing.assert_allclose(state["rprop"]["step_size"], [0.01], rtol=1e-6)


def test_adagrad_heeds_the_initial_value_of_a_group():
    tx = jopt.adagrad(0.1, groups={"b": jopt.group("b", initial_accumulator_value=3.0)})
    state = tx.init({"a": jnp.ones(2), "b": jnp.ones(2)})["adagrad"]["sum_of_squares"]
    assert state["a"].tolist() == [0.0, 0.0]
    assert state["b"].tolist() == [3.0, 3.0]


def test_adagrad_refuses_a_schedule_for_its_initial_value():
    with pytest.raises(jopt.ConfigError, match="initial_accumulator_value is read only once"):
        jopt.adagrad(initial_accumulator_value=jopt.schedules.constant(0.1))


def test_adagrad_and_rprop_start_both_components_of_a_complex_leaf():
    p = jnp.ones(2, "complex64")
    state = jopt.adagrad(initial_accumulator_value=0.5).init(p)["adagrad"]
    assert state["sum_of_squares"].tolist() == [0.5 + 0.5j] * 2
    assert jopt.rprop(0.25).init(p)["rprop"]["step_size"].tolist() == [0.25 + 0.25j] * 2


def test_asgd_starts_from_a_schedules_first_value():
    state = jopt.asgd(jopt.schedules.linear(0.5, 0.0, 10)).init({"w": jnp.ones(2)})["asgd"]
    assert state["eta"]["w"].dtype == jnp.float32
    assert float(state["eta"]["w"]) == 0.5


@pytest.mark.parametrize("make", [jopt.asgd, jopt.nadam])
def test_scalars_of_a_complex_scalar_are_real(make):
    p = jnp.asarray(1 + 1j, "complex64")
    tx = make(0.1)
    state = tx.init(p)
    updates, new = tx.update(p, state, p)
    assert updates.dtype == jnp.complex64
    name = make.__name__
    for key in {"asgd": ("eta", "weight"), "nadam": ("mu_product",)}[name]:
        assert (state[name][key].shape, state[name][key].dtype) == ((), jnp.float32)
        assert (new[name][key].shape, new[name][key].dtype) == ((), jnp.float32)


@pytest.mark.parametrize("b2", [0.9, 0.99, 0.999, 0.9999])
def test_radam_knows_how_long_it_has_averaged(b2):
    # In sixty digits; the plain formula in float32 is 1e-4 off.
    b = Decimal(float(np.float32(b2)))
    for t in (1, 2, 5, 6, 7, 10, 30, 100, 1000, 10000, 100000):
        with localcontext(prec=60):
            exact = float(2 / (1 - b) - 1 - 2 * t * b**t / (1 - b**t))
        found = float(averaged_length(jnp.float32(b2), jnp.float32(t)))
        assert abs(found - exact) <= 2e-6 * exact
