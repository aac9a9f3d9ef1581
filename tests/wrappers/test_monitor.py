"""What monitors keep, what `metrics` reads, and the norms that users may take."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

PARAMS = {"w": jnp.array([3.0, 4.0]), "b": jnp.zeros(1)}
GROUPS = {"b": jopt.group("b", learning_rate=0.25)}


def test_metrics_are_flat_scalars_that_a_scan_can_collect():
    measures = {"norm": jopt.global_norm, "gap": lambda u, p: jnp.sum(u["w"] - p["w"])}
    tx = jopt.chain(
        grads=jopt.monitor(measures),
        opt=jopt.skip_nonfinite(jopt.sgd(optax.linear_schedule(1.0, 0.0, 4), groups=GROUPS)),
        steps=jopt.monitor(),
    )

    def body(carry, g):
        params, state = carry
        grads = {"w": g, "b": jnp.ones(1)}
        updates, state = tx.update(grads, state, params)
        return (jopt.apply_updates(params, updates), state), jopt.metrics(state)

    gs = jnp.array([[3.0, 4.0], [jnp.inf, 1.0], [0.0, 0.0]])
    _, seen = jax.lax.scan(body, (PARAMS, tx.init(PARAMS)), gs)
    assert {k: v.tolist() for k, v in seen.items() if not k.endswith(("gap", "decay"))} == {
        "grads/norm": [pytest.approx(26**0.5), float("inf"), 1.0],
        "grads/count": [1, 2, 3],
        "opt/total": [0, 1, 1],
        "opt/in_a_row": [0, 1, 0],
        "opt/sgd/learning_rate": [0.75, 0.75, 0.5],
        "opt/sgd/b/learning_rate": [0.25, 0.25, 0.25],
        "opt/sgd/count": [1, 1, 2],
        # Of the last step that was taken.
        "steps/norm": [pytest.approx((25 + 0.0625) ** 0.5)] * 2 + [0.25],
        "steps/count": [1, 1, 2],
    }
    assert float(seen["grads/gap"][0]) == 0.0


@pytest.mark.usefixtures("x64")
def test_running_means_are_optaxs_and_pass_over_what_is_not_finite():
    tx = jopt.monitor({"m": lambda u: u["w"]}, decay=0.9)
    other = optax.monitor({"m": optax.measure_with_ema(lambda u: u["w"], 0.9)})
    state, theirs = tx.init({"w": 0.0}), other.init({"w": 0.0})
    assert np.isnan(jopt.metrics(state)["monitor/m"])
    for x in (1.0, -2.0, 5.0):
        g = {"w": jnp.float64(x)}
        _, state = tx.update(g, state)
        with jax.numpy_dtype_promotion("standard"):
            _, theirs = other.update(g, theirs)
        found = jopt.metrics(state)["monitor/m"]
        np.testing.assert_allclose(found, theirs.measurements["m"], rtol=1e-13)
    _, after = tx.update({"w": jnp.float64(jnp.nan)}, state)
    assert jopt.metrics(after)["monitor/m"] == found
    assert jax.tree.structure(after) == jax.tree.structure(tx.init({"w": 0.0}))


def test_what_a_measure_may_not_be():
    for measures in ({"norm": 3}, {"count": jopt.global_norm}, [jopt.global_norm]):
        with pytest.raises(jopt.ConfigError, match="functions by name"):
            jopt.monitor(measures)
    tx = jopt.monitor({"w": lambda u: u["w"]})
    with pytest.raises(jopt.ConfigError, match="more than one number"):
        tx.update(PARAMS, tx.init(PARAMS))


def test_norms_of_trees():
    tree = {"a": jnp.array([3e30, 0.0]), "b": None, "c": jnp.complex64(4e30j)}
    np.testing.assert_allclose(jopt.global_norm(tree), 5e30, rtol=1e-6)
    np.testing.assert_allclose(jopt.leaf_norms(tree)["c"], 4e30, rtol=1e-6)
    assert jopt.leaf_norms(tree)["b"] is None
    whole = {"a": jnp.array([3, 4]), "b": jnp.array(12, "uint8")}
    assert (float(jopt.global_norm(whole)), jopt.leaf_norms(whole)["a"].dtype) == (13.0, "float32")
    assert float(jopt.global_norm({})) == 0.0
    assert bool(jopt.all_finite(tree))
    assert not jopt.all_finite([jnp.float32(jnp.nan)])


def test_counts_stay_at_the_largest_number():
    for dtype in ("int8", "int32", "uint32"):
        top = jnp.iinfo(dtype).max
        found = jopt.safe_increment(jnp.array([3, top - 1, top], dtype))
        assert (found.tolist(), found.dtype) == ([4, top, top], dtype)
    with pytest.raises(jopt.ConfigError, match="a count is a whole number"):
        jopt.safe_increment(1.0)
