"""What a transform and a state hold is their own, and what cannot be said is an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

PARAMS = {"b": jnp.zeros(2), "w": jnp.ones(3)}
GRADS = {"b": jnp.ones(2), "w": jnp.ones(3)}


def test_donating_the_state_leaves_the_users_arrays_alone():
    rate = jnp.float32(0.1)
    tx = jopt.adamw(rate)
    step = jax.jit(lambda s: tx.update(GRADS, s, PARAMS)[1], donate_argnums=0)
    step(tx.init(PARAMS))
    step(tx.init(PARAMS))
    assert float(rate) == np.float32(0.1)
    assert repr(tx) == f"jopt.adamw(learning_rate={float(rate)!r})"
    both = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=rate, weight_decay=rate)
    step(both)
    assert float(rate) == np.float32(0.1)


def test_numbers_of_every_kind_make_the_same_transform():
    kinds = [0.0, np.float32(0.0), np.float64(0.0), jnp.float32(0.0), jnp.array(0.0)]
    made = [jopt.sgd(0.1, momentum) for momentum in kinds]
    entries = ["count", "given", "hyperparams"]
    assert all(tx == made[0] and sorted(tx.init(PARAMS)["sgd"]) == entries for tx in made)


def test_extend_does_not_drop_moments_for_a_new_slot():
    state = jopt.adam(0.1).init(PARAMS)
    with pytest.raises(jopt.StateError, match="extend adds leaves, and this state has other slots"):
        jopt.extend(jopt.adam(0.1, amsgrad=True), state, PARAMS)


def test_extend_takes_no_parameter_of_another_shape():
    state = jopt.adam(0.1).init(PARAMS)
    with pytest.raises(
        jopt.StateError, match=r"at:       w\n  expected: \(5,\)\n  found:    \(3,\)"
    ):
        jopt.extend(jopt.adam(0.1), state, {**PARAMS, "w": jnp.ones(5)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: jopt.adamw(None),
        lambda: jopt.adam(b1=None),
        lambda: jopt.sgd(0.1, weight_decay=None),
        lambda: jopt.clip_by_global_norm(None),
    ],
)
def test_a_number_that_is_needed_cannot_be_none(make):
    with pytest.raises(jopt.ConfigError, match="cannot be switched off"):
        make()


@pytest.mark.parametrize(
    ("updates", "text"),
    [
        ({"b": jnp.ones(2), "w": jnp.ones(4)}, r"another shape .*\n  at:       w"),
        ({"b": jnp.ones(2), "w": jnp.ones(3, jnp.complex64)}, r"complex.*\n  at:       w"),
    ],
)
def test_updates_must_fit_their_parameters(updates, text):
    with pytest.raises(jopt.TreeError, match=text):
        jopt.apply_updates(PARAMS, updates)


@pytest.mark.parametrize(
    "value", [[-0.1, 0.2], [0.1, np.nan], np.array([1 + 1j, 2]), ["x", "y"]], ids=str
)
def test_every_number_of_an_array_is_checked(value):
    state = jopt.adamw(0.1).init(PARAMS)
    with pytest.raises(jopt.ConfigError, match="learning_rate"):
        jopt.set_hyperparams(state, learning_rate=value)


def test_an_array_of_numbers_wants_a_vmap():
    tx = jopt.adamw(0.1)
    state = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=[0.1, 0.2])
    with pytest.raises(jopt.StateError, match="learning_rate is not a single number"):
        tx.update(GRADS, state, PARAMS)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (jopt.schedules.constant(-1.0), "out of range"),
        (lambda t: float("nan"), "out of range"),
        (lambda t: jnp.ones(2), "not a single number"),
        (lambda t: None, "gives no number"),
        (lambda: 1.0, "takes other arguments"),
    ],
)
def test_the_first_value_of_a_schedule_is_checked(schedule, text):
    with pytest.raises(jopt.JoptError, match=text):
        jopt.adamw(schedule).init(PARAMS)


def test_a_gradient_through_clipping_is_finite_at_zero():
    for clip in (jopt.clip_by_norm(1.0), jopt.clip_by_global_norm(1.0)):
        state = clip.init(PARAMS)
        total = lambda g: clip.update(g, state, PARAMS)[0]["b"].sum()  # noqa: B023, E731
        slope = jax.grad(total)(jax.tree.map(jnp.zeros_like, PARAMS))
        assert np.isfinite(slope["b"]).all()


def test_traced_numbers_in_groups_leak_nothing():
    def state_of(rate):
        return jopt.adamw(0.1, groups={"b": jopt.group("b", learning_rate=rate)}).init(PARAMS)

    with jax.checking_leaks():
        jax.jit(state_of)(0.2)


def test_a_state_inside_an_optax_chain_is_found():
    numbers = jopt.hyperparams((jopt.adamw(0.25).init(PARAMS),))
    assert float(numbers["0/adamw"]["default"]["learning_rate"]) == 0.25


def test_a_number_given_to_the_factory_keeps_its_derivative():
    def after_one_step(rate):
        tx = jopt.sgd(rate)
        updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
        return jopt.apply_updates(PARAMS, updates)["w"].sum()

    assert float(jax.grad(after_one_step)(0.1)) == -3.0
