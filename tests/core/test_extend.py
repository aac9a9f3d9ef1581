"""Adding and unfreezing leaves mid-run; counters of leaves that sat steps out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.core.helpers import error, params, same, train

MAKERS = {
    "sgd": lambda **kw: jopt.sgd(0.1, momentum=0.9, dampening=0.5, **kw),
    "adam": lambda **kw: jopt.adam(0.1, amsgrad=True, **kw),
    "adamw": lambda **kw: jopt.adamw(0.1, **kw),
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def without(tree, name):
    return {k: v for k, v in tree.items() if k != name}


def steps(tx, one, state, grads):
    for g in grads:
        updates, state = tx.update(g, state, one)
        one = jopt.apply_updates(one, updates)
    return one, state


def grads_of(tree, seeds):
    def one(seed):
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), tree)

    return [one(seed) for seed in seeds]


@every
def test_added_leaves_start_at_step_one_and_the_others_go_on(make):
    tx, whole = make(), params()
    old = without(whole, "head")
    one, state = train(tx, old, tx.init(old), range(5))
    wider = {**one, "head": whole["head"]}
    grown = jopt.extend(tx, state, wider)
    # Bit-equal: every leaf that was there, the count, the numbers.
    node, before = grown[tx.name], state[tx.name]
    for key in before:
        kept = without(node[key], "head") if isinstance(node[key], dict) else node[key]
        same(kept, before[key])

    grads = grads_of(wider, range(3))
    got, _ = steps(tx, wider, grown, grads)
    fresh = {"head": whole["head"]}
    new, _ = steps(tx, fresh, tx.init(fresh), [{"head": g["head"]} for g in grads])
    same(got["head"], new["head"])
    on, _ = steps(tx, one, state, [without(g, "head") for g in grads])
    same(without(got, "head"), on)


@every
def test_unfrozen_leaves_start_at_step_one_and_the_others_go_on(make):
    whole = params()
    frozen = make(groups={"still": jopt.group("^encoder/", freeze=True)})
    one, state = train(frozen, whole, frozen.init(whole), range(4))
    same(one["encoder"], whole["encoder"])
    tx = make()
    grown = jopt.extend(tx, state, one)
    for slot in (s for s in grown[tx.name] if s in ("mu", "nu", "momentum_buffer")):
        same(without(grown[tx.name][slot], "encoder"), state[tx.name][slot])
        assert not any(np.any(x) for x in jax.tree.leaves(grown[tx.name][slot]["encoder"]))
    grads = grads_of(one, range(3))
    got, _ = steps(tx, one, grown, grads)
    fresh = {"encoder": whole["encoder"]}
    new, _ = steps(tx, fresh, tx.init(fresh), [{"encoder": g["encoder"]} for g in grads])
    same(got["encoder"], new["encoder"])
    on, _ = steps(frozen, one, state, grads)
    same(without(got, "encoder"), without(on, "encoder"))


@every
def test_extending_twice_keeps_each_age(make):
    tx, whole = make(), params()
    names = ["scale", "head", "encoder"]
    grads = grads_of(whole, range(9))
    one, state = {}, tx.init({})
    for i, name in enumerate(names):
        one = {**one, name: whole[name]}
        state = jopt.extend(tx, state, one)
        one, state = steps(tx, one, state, [{k: g[k] for k in one} for g in grads[3 * i :][:3]])
    for i, name in enumerate(names):
        alone = {name: whole[name]}
        want, _ = steps(tx, alone, tx.init(alone), [{name: g[name]} for g in grads[3 * i :]])
        same(one[name], want[name])


@every
def test_extending_by_nothing_changes_nothing(make):
    tx, one = make(), params()
    one, state = train(tx, one, tx.init(one), range(2))
    same(jopt.extend(tx, state, one), state)


def test_edited_numbers_survive_and_new_groups_bring_their_own():
    one = params()
    tx = jopt.adamw(0.1)
    state = jopt.set_hyperparams(tx.init(one), learning_rate=0.5)
    wider = jopt.adamw(0.1, groups={"b": jopt.group("bias", weight_decay=0.25)})
    view = jopt.hyperparams(jopt.extend(wider, state, one))["adamw"]
    assert float(view["default"]["learning_rate"]) == 0.5
    assert float(view["b"]["learning_rate"]) == 0.5
    assert float(view["b"]["weight_decay"]) == 0.25


def test_every_part_of_a_chain_is_extended():
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adam(0.1), jopt.sgd(1.0))
    one, state = train(tx, {"a": jnp.ones(2)}, tx.init({"a": jnp.ones(2)}), range(2))
    wider = {**one, "b": jnp.ones(3)}
    grown = jopt.extend(tx, state, wider)
    assert set(grown) == {"clip_by_global_norm", "adam", "sgd"}
    assert int(grown["adam"]["leaf_count"]["b"]) == 0
    after, _ = train(tx, wider, grown, [0])
    assert np.isfinite(after["b"]).all()


def test_a_state_that_lacks_a_leaf_says_how_to_extend():
    tx = jopt.adamw(0.1)
    state = tx.init({"a": jnp.ones(2)})
    wider = {"a": jnp.ones(2), "new": {"b": jnp.ones(2)}}
    with error(
        jopt.StateError,
        """
        adamw: the state has no 'mu' for a parameter
          at:       new/b
          For added or unfrozen leaves: state = jopt.extend(tx, state, params).
        """,
    ):
        tx.update(wider, state, wider)


def test_leaves_cannot_leave():
    tx = jopt.adamw(0.1)
    state = tx.init({"a": jnp.ones(2), "b": {"c": jnp.ones(2)}})
    with error(
        jopt.StateError,
        """
        adamw: extend only adds leaves, and this one is not among the parameters
          at:       b/c
        """,
    ):
        jopt.extend(tx, state, {"a": jnp.ones(2)})


def test_the_state_of_another_transform_is_not_extended():
    with pytest.raises(jopt.StateError, match="adamw: this state belongs to another transform"):
        jopt.extend(jopt.adamw(0.1), jopt.adam(0.1).init(params()), params())


def test_leaf_counts_are_where_skips_says():
    one = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)}
    g = jnp.ones(2)
    _, state = steps(jopt.adam(0.1), one, jopt.adam(0.1).init(one), [{"a": g, "b": g, "c": g}] * 2)
    assert "leaf_count" not in state["adam"]
    tx = jopt.adam(0.1, skips="^[ab]$")
    state = jopt.extend(tx, state, one)
    assert state["adam"]["leaf_count"] == {"a": 2, "b": 2}
    seen = []
    for there in ("ac", "abc", "c", "abc"):
        grads = {k: g if k in there else None for k in one}
        one, state = steps(tx, one, state, [grads])
        seen.append(jax.tree.map(int, state["adam"].get("leaf_count")))
    assert seen == [{"a": 3, "b": 2}, {"a": 4, "b": 3}, {"a": 4, "b": 3}, {"a": 5, "b": 4}]
    assert int(state["adam"]["count"]) == 6


def test_a_leaf_that_sat_out_is_as_if_its_optimizer_had_not_been_called():
    tx, g = jopt.adam(0.1, skips="b"), jnp.array([0.5, -2.0])
    one = {"a": jnp.ones(2), "b": jnp.ones(2)}
    sequence = [{"a": g, "b": None}, {"a": g, "b": g}] * 2
    one, state = steps(tx, one, tx.init(one), sequence)
    alone = {"b": jnp.ones(2)}
    want, node = steps(tx, alone, tx.init(alone), [{"b": g}] * 2)
    same(one["b"], want["b"])
    same(state["adam"]["nu"]["b"], node["adam"]["nu"]["b"])


def test_the_counter_saturates():
    tx, one = jopt.adam(0.1), {"a": jnp.ones(2)}
    state = tx.init(one)
    state["adam"]["count"] = jnp.int32(2**31 - 2)
    for _ in range(3):
        one, state = steps(tx, one, state, [one])
    assert int(state["adam"]["count"]) == 2**31 - 1
    assert np.isfinite(one["a"]).all()


def test_freezing_mid_run_is_said_and_extend_does_it():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    state = jopt.adamw(0.1).init(params)
    frozen = jopt.adamw(0.1, groups={"still": jopt.group("^a$", freeze=True)})
    with pytest.raises(
        jopt.StateError, match=r"'mu' for a leaf that is frozen or gone\n  at:       a"
    ):
        frozen.update(params, state, params)
    state = jopt.extend(frozen, state, params)
    assert list(state["adamw"]["mu"]) == ["b"]
    updates, _ = frozen.update(params, state, params)
    assert not updates["a"].any()


def test_a_leaf_that_is_gone_is_said():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    tx = jopt.adamw(0.1)
    state = tx.init(params)
    with pytest.raises(jopt.StateError, match=r"frozen or gone\n  at:       b"):
        tx.update({"a": params["a"]}, state, {"a": params["a"]})
