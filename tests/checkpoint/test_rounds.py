"""Rounds of version 1: shares of a mean become sums, and frozen leaves have none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.checkpoint import manifest, migrations
from jopt.checkpoint.rounds import rounds_of_version_1
from tests.checkpoint.goldens import ALL, path_of

PARAMS = {"w": jnp.arange(3.0), "still": jnp.ones(2)}
GROUPS = {"still": jopt.group("^still", freeze=True)}
G = [{"w": jnp.full(3, float(i + 1)), "still": jnp.ones(2)} for i in range(8)]


@pytest.fixture
def version_2(monkeypatch):
    monkeypatch.setattr(manifest, "VERSION", 2)
    monkeypatch.setitem(migrations.MIGRATIONS, 1, rounds_of_version_1)


def made(every):
    return jopt.ema(
        jopt.accumulate(jopt.sgd(1.0, momentum=0.5, groups=GROUPS), every=every), decay=0.5
    )


def run(tx, state, params, grads):
    for g in grads:
        updates, state = tx.update(g, state, params)
        params = jopt.apply_updates(params, updates)
    return params, state


def as_version_1(state, every):
    """What the same state was in version 1."""
    node = dict(state["accumulate"])
    total = node.pop("sum")
    node["mean"] = {"w": total["w"] / every, "still": jnp.ones(2)}
    average = {**state["ema"]["average"], "still": jnp.ones(2)}
    return {"accumulate": node, "ema": {**state["ema"], "average": average}}


def written(monkeypatch, tree, tx):
    with monkeypatch.context() as m:
        m.setattr(manifest, "VERSION", 1)
        return jopt.to_bytes(tree, tx=tx)


@pytest.mark.parametrize("place", ["alone", "in a run"])
@pytest.mark.parametrize("steps", [4, 6])
def test_a_round_goes_on(monkeypatch, version_2, steps, place):
    tx = made(4)
    params, state = run(tx, tx.init(PARAMS), PARAMS, G[:steps])
    old, like = as_version_1(state, 4), tx.init(PARAMS)
    if place == "in a run":
        old, like = {"run": {"state": old}, "step": 3}, {"run": {"state": like}, "step": 0}
    data = written(monkeypatch, old, tx)
    loaded = jopt.from_bytes(like, data)
    loaded = loaded["run"]["state"] if place == "in a run" else loaded
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    ours, _ = run(tx, loaded, params, G[steps:])
    want, _ = run(tx, state, params, G[steps:])
    np.testing.assert_allclose(ours["w"], want["w"], rtol=1e-6)
    # Another length of round goes on from the same sum.
    other = made(8)
    again = jopt.from_bytes(
        other.init(PARAMS),
        data if place == "alone" else written(monkeypatch, as_version_1(state, 4), tx),
    )
    np.testing.assert_allclose(
        again["accumulate"]["sum"]["w"], state["accumulate"]["sum"]["w"], rtol=1e-6
    )


def test_without_its_length_only_the_beginning_of_a_round_can_be_read(monkeypatch, version_2):
    tx = made(4)
    for steps in (4, 6):
        _, state = run(tx, tx.init(PARAMS), PARAMS, G[:steps])
        data = written(monkeypatch, as_version_1(state, 4), None)
        if steps == 4:
            loaded = jopt.from_bytes(tx.init(PARAMS), data)
            assert int(loaded["accumulate"]["micro"]) == 0
        else:
            with pytest.raises(jopt.CheckpointError, match="does not say how long the round is"):
                jopt.from_bytes(tx.init(PARAMS), data)


def test_without_like_what_frozen_leaves_had_is_there(monkeypatch, version_2):
    tx = made(4)
    _, state = run(tx, tx.init(PARAMS), PARAMS, G[:6])
    loaded = jopt.from_bytes(None, written(monkeypatch, as_version_1(state, 4), tx))
    np.testing.assert_allclose(loaded["accumulate"]["sum"]["w"], G[4]["w"] + G[5]["w"])
    extended = jopt.extend(tx, loaded, PARAMS)
    assert jax.tree.structure(extended) == jax.tree.structure(state)


def test_a_leaf_that_a_present_file_has_too_many_is_an_error_as_before():
    tx = made(4)
    state = tx.init(PARAMS)
    state["ema"]["average"]["more"] = jnp.ones(2)
    with pytest.raises(jopt.CheckpointError, match=r"unexpected +ema/average/more"):
        jopt.from_bytes(tx.init(PARAMS), jopt.to_bytes(state))


def test_the_frozen_file_of_version_1():
    golden = ALL["run"]
    like = golden.tree()
    found = golden.read(path_of("run", 1).read_bytes(), like, golden.tx())
    assert jax.tree.structure(found) == jax.tree.structure(like)
    state, now = found["state"], like["state"]
    for path, total in jax.tree.flatten_with_path(state["accumulate"]["sum"])[0]:
        keys = [k.key for k in path]
        assert keys != ["conv", "kernel"]
        np.testing.assert_allclose(total.reshape(-1), 4 * np.arange(1, total.size + 1) / 8)
    for name in ("mu", "nu"):
        inner = [s["accumulate"]["inner"]["skip_nonfinite"]["inner"]["adamw"] for s in (state, now)]
        jax.tree.map(np.testing.assert_array_equal, inner[0][name], inner[1][name])
    jax.tree.map(np.testing.assert_array_equal, state["ema"]["average"], now["ema"]["average"])
