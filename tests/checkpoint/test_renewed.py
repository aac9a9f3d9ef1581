"""A number that the transform was built with anew rules from the load on, and the load says so."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}
GROUPS = {"slow": jopt.group("^b$", learning_rate=1e-4)}
OLD = jopt.accumulate(jopt.adamw(1e-3, weight_decay=0.25, groups=GROUPS), every=1)
NEW = jopt.accumulate(jopt.adamw(0.5, weight_decay=0.25, groups=GROUPS), every=1)


def rates(state):
    (numbers,) = (v for k, v in jopt.hyperparams(state).items() if k.endswith("adamw"))
    return {g: round(float(own["learning_rate"]), 6) for g, own in numbers.items()}


@pytest.fixture
def file(tmp_path):
    state = jopt.set_hyperparams(OLD.init(PARAMS), weight_decay=0.125)
    jopt.save(tmp_path / "run.jopt", {"state": state}, tx=OLD)
    return tmp_path / "run.jopt"


def like_of(kind, tx):
    if kind == "none":
        return None
    made = jax.eval_shape(tx.init, PARAMS) if kind == "shapes" else tx.init(PARAMS)
    return {"state": jax.tree.map(np.asarray, made) if kind == "numpy" else made}


@pytest.mark.parametrize("kind", ["arrays", "numpy", "shapes", "none"])
def test_a_new_number_holds_and_is_told(file, kind, caplog):
    # Arrays say themselves what their transform was built with; shapes, and nothing, do not.
    tx = None if kind in ("arrays", "numpy") else NEW
    back, report = jopt.load(file, like_of(kind, NEW), tx=tx, strict=False)
    # Without `like` it is what is in the file; the next update takes the new number over.
    now = 0.001 if kind == "none" else 0.5
    assert rates(back["state"]) == {"default": now, "slow": 0.0001}
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("jopt", logging.WARNING)
    assert "learning_rate: found 0.001, 0.5 holds" in record.getMessage()
    assert len(report.renewed) == 1
    assert report.ok
    # What was edited in the state and not in the script stands, and the next update agrees.
    state = jax.tree.map(jnp.asarray, back["state"])
    _, after = NEW.update(PARAMS, state, PARAMS)
    for s, rate in ((state, now), (after, 0.5)):
        assert rates(s) == {"default": rate, "slow": 0.0001}
        assert float(jopt.hyperparams(s)["accumulate/adamw"]["default"]["weight_decay"]) == 0.125


def test_nothing_is_told_where_nothing_is_new(file, caplog):
    back = jopt.load(file, {"state": OLD.init(PARAMS)}, tx=OLD)["state"]
    assert not caplog.records
    assert rates(back) == {"default": 0.001, "slow": 0.0001}


def test_an_edit_goes_where_the_script_changed_the_same_number(tmp_path):
    state = jopt.set_hyperparams(OLD.init(PARAMS), learning_rate=0.25)
    again = jopt.load_state_dict(NEW.init(PARAMS), jopt.state_dict(state))
    assert rates(again) == {"default": 0.5, "slow": 0.0001}
    same, report = jopt.load_state_dict(OLD.init(PARAMS), jopt.state_dict(state), strict=False)
    assert rates(same) == {"default": 0.25, "slow": 0.0001}
    assert report.renewed == ()
    assert report.ok


def test_every_run_of_a_sweep_for_itself():
    start = jax.vmap(lambda _: OLD.init(PARAMS))(jnp.arange(2))
    edited = jopt.set_hyperparams(start, learning_rate=jnp.array([0.1, 0.2]))
    like = jax.vmap(lambda _: NEW.init(PARAMS))(jnp.arange(2))
    back = jopt.load_state_dict(like, jopt.state_dict(edited))
    rate = jopt.hyperparams(back)["accumulate/adamw"]["default"]["learning_rate"]
    assert rate.tolist() == [0.5, 0.5]
