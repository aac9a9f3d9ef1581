"""`jopt.step` is `update` and `apply_updates`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

PARAMS = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.ones(4, jnp.bfloat16)}

TRANSFORMS = {
    "single": jopt.adamw(0.1),
    "chain": jopt.chain(jopt.clip_by_global_norm(0.1), jopt.sgd(0.1, momentum=0.9)),
    "no steps": jopt.clip_by_value(0.1),
    "empty": jopt.chain(),
    "accumulate": jopt.accumulate(jopt.adamw(0.1), every=2),
    "in a chain": jopt.chain(jopt.clip_by_value(1.0), jopt.accumulate(jopt.sgd(0.1), every=2)),
    "inside": jopt.ema(jopt.accumulate(jopt.adamw(0.1), every=2), decay=0.5),
    "twice": jopt.accumulate(jopt.accumulate(jopt.sgd(0.1), every=2), every=2),
    "skipping": jopt.skip_nonfinite(jopt.accumulate(jopt.adamw(0.1), every=2)),
}


def gradients(i):
    return jax.tree.map(lambda p: jnp.cos(p.astype(jnp.float32) * (i + 1)).astype(p.dtype), PARAMS)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.sampled
def test_step_is_update_and_apply_updates(name):
    tx = TRANSFORMS[name]

    @jax.jit
    def apart(g, state, params):
        updates, state = tx.update(g, state, params)
        return jopt.apply_updates(params, updates), state

    whole = jax.jit(lambda g, state, params: jopt.step(tx, g, state, params))
    one = two = (PARAMS, tx.init(PARAMS))
    for i in range(5):
        one = apart(gradients(i), one[1], one[0])
        two = whole(gradients(i), two[1], two[0])
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=2e-7, atol=1e-7)


def test_a_leaf_without_gradient_and_a_frozen_integer_stay():
    params = {"w": jnp.ones(2), "n": jnp.arange(3), "late": jnp.ones(2)}
    tx = jopt.adamw(0.1, groups={"still": jopt.group("^n$", freeze=True)}, skips="late")
    grads = {"w": jnp.ones(2), "n": None, "late": None}
    after, state = jopt.step(tx, grads, tx.init(params), params)
    assert (after["n"] == params["n"]).all()
    assert (after["late"] == params["late"]).all()
    assert (after["w"] != params["w"]).all()
    assert int(state["adamw"]["leaf_count"]["late"]) == 0


def test_step_needs_params():
    tx = jopt.sgd(0.1)
    with pytest.raises(jopt.TreeError, match="step: needs the parameters"):
        jopt.step(tx, PARAMS, tx.init(PARAMS), None)
