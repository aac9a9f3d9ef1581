"""Summaries, against what states hold and what is read from them by other ways."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import jopt
from tests import catalog

S = jax.ShapeDtypeStruct
PARAMS = {
    "embed": {"table": jnp.ones((9, 4))},
    "layer": {"kernel": jnp.ones((4, 4), jnp.bfloat16), "bias": jnp.ones(4)},
}
GROUPS = {
    "plain": jopt.group("bias$", weight_decay=0.0),
    "layer": jopt.group("^layer", learning_rate=jopt.times(10)),
    "still": jopt.group("table$", freeze=True),
}


def held(tree):
    leaves = jax.tree.leaves(tree)
    return {"entries": sum(x.size for x in leaves), "bytes": sum(x.nbytes for x in leaves)}


def by_path(found):
    return {leaf["path"]: leaf for leaf in found.leaves}


@pytest.mark.sampled
@pytest.mark.parametrize("entry", catalog.CATALOG, ids=lambda e: e.name)
def test_totals_are_those_of_the_state(entry):
    params = {"w": jnp.ones((8, 6)), "m": jnp.ones((6, 8))}
    tx = entry.make()
    params |= {} if tx.parts[entry.name].spec.ndim == 2 else {"b": jnp.ones(3)}
    found, state = jopt.summary(tx, params), tx.init(params)
    assert found.totals["parameters"] == held(params)
    assert found.totals["state"] == held(state)
    used = [s for s in tx.parts[entry.name].slots if jax.tree.leaves(state[entry.name][s.name])]
    for slot in used:
        assert found.totals[f"{entry.name}/{slot.name}"] == held(state[entry.name][slot.name])
    assert sum(leaf["state_bytes"] for leaf in found.leaves) <= found.totals["state"]["bytes"]
    assert jopt.summary(tx, jax.eval_shape(lambda: params)).totals == found.totals


def test_leaves_have_their_groups_and_numbers():
    tx = jopt.adamw(0.5, weight_decay=0.25, groups=GROUPS)
    found = by_path(jopt.summary(tx, PARAMS))
    assert found["layer/bias"]["groups"] == ["plain", "layer"]
    assert found["layer/bias"]["numbers"]["adamw"] == {"learning_rate": 5.0, "weight_decay": 0.0}
    assert found["layer/kernel"]["numbers"]["adamw"] == {"learning_rate": 5.0, "weight_decay": 0.25}
    assert found["layer/kernel"]["slots"]["adamw/mu"] == {
        "dtype": "float32",
        "entries": 16,
        "bytes": 64,
    }
    assert found["embed/table"]["frozen"]
    assert found["embed/table"]["slots"] == found["embed/table"]["numbers"] == {}


def test_numbers_are_those_that_hyperparams_reads():
    tx = jopt.adamw(0.5, groups=GROUPS)
    params = {"x": jnp.ones(2), **PARAMS}
    state = jopt.set_hyperparams(tx.init(params), b1=0.25)
    found = jopt.summary(tx, params, state).numbers
    expected = jax.tree.map(float, jopt.hyperparams(state, tx, params))
    assert jax.tree.map(np.float32, found) == jax.tree.map(np.float32, expected)
    assert "plain+layer" in found["adamw"]


def test_the_number_that_was_changed_last_is_told():
    before, after = (jopt.sgd(rate, momentum=0.5) for rate in (0.5, 0.25))
    state = jopt.set_hyperparams(before.init(PARAMS), momentum=0.75)
    found = jopt.summary(after, PARAMS, state).numbers["sgd"]["default"]
    assert (found["learning_rate"], found["momentum"]) == (0.25, 0.75)


def test_scheduled_numbers_are_those_of_the_next_step():
    tx = jopt.sgd(jopt.schedules.linear(1.0, 0.0, 4))
    state = tx.init(PARAMS)
    for _ in range(2):
        _, state = tx.update(PARAMS, state, PARAMS)
    found = jopt.summary(tx, PARAMS, state)
    assert found.numbers["sgd"]["default"]["learning_rate"] == 0.5
    assert found.scheduled == {("sgd", "learning_rate")}
    assert "learning_rate, scheduled      0.5" in repr(found)


def test_routes_stacks_and_wrappers():
    params = {"kernel": jnp.ones((3, 4, 2, 2)), "bias": jnp.ones(4)}
    muon = ("kernel$", jopt.muon(0.5, axes={"kernel": "layer d (heads k)"}))
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.ema(jopt.route(jopt.adamw(), m=muon)))
    found = by_path(jopt.summary(tx, params))
    assert found["kernel"]["optimizers"] == ["muon: layer d (heads k)"]
    assert found["bias"]["optimizers"] == ["adamw"]
    assert {name.rpartition("/")[2] for name in found["bias"]["slots"]} == {"mu", "nu", "average"}
    assert "optimizer" in repr(jopt.summary(tx, params))


def test_slots_that_are_stored_in_codes_or_belong_to_others():
    wide = {"w": jnp.ones((64, 128))}
    coded = jopt.summary(jopt.adamw(state_dtype="int8"), wide)
    assert coded.leaves[0]["slots"]["adamw/mu"]["dtype"] in ("int8", "uint8")
    assert coded.totals["state"] == held(jopt.adamw(state_dtype="int8").init(wide))
    foreign = jopt.summary(jopt.chain(optax.adam(1e-3)), wide)
    assert foreign.totals["foreign/0/mu"] == held(wide)
    assert jopt.summary(jopt.adamw(), jnp.ones(3)).totals["adamw/mu"] == held(jnp.ones(3))
    rounds = jopt.summary(jopt.accumulate(jopt.sgd(0.1), 4), wide)
    assert rounds.totals["accumulate/sum"] == held(wide)


def test_nothing_is_allocated_for_shapes():
    huge = {"w": S((2**20, 2**20), jnp.float32)}
    found = jopt.summary(jopt.adamw(), huge)
    assert found.totals["state"]["bytes"] > 8 * 2**40
    assert "8.8 TB" in repr(found)


def test_many_leaves_are_shown_by_subtree():
    params = {
        f"block{i}": {"w": S((2, i + 1), "float32"), "b": S((2,), "float32")} for i in range(50)
    }
    found = jopt.summary(jopt.sgd(0.5, momentum=0.5), params)
    lines = repr(found).splitlines()
    assert "100 leaves, by subtree: whole=True shows each" in lines
    (row,) = [line.split() for line in lines if line.startswith("block7/...")]
    assert row[1:6] == ["2", "leaves,", "18", "entries", "float32"]
    assert sum(line.startswith("block") for line in lines) <= 60
    whole = repr(jopt.summary(jopt.sgd(0.5), params, whole=True))
    assert sum(line.startswith("block") for line in whole.splitlines()) == 100


def test_rows_by_subtree_say_several_where_leaves_differ():
    params = {f"b{i:02}": {"w": S((2,), "float32"), "b": S((2,), "float16")} for i in range(40)}
    text = repr(
        jopt.summary(jopt.adamw(groups={"plain": jopt.group("b$", weight_decay=0.0)}), params)
    )
    assert "several" in text
    assert "float16, float32" in text


def test_pages_and_terminals_show_the_same_cells():
    tx = jopt.adamw(0.5, groups={"<b>": jopt.group("bias$", weight_decay=0.0)})
    found = jopt.summary(tx, PARAMS)
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()
    console = Console(file=io.StringIO(), width=200)
    console.print(found)
    drawn = {line.rstrip() for line in console.file.getvalue().splitlines()}
    assert {line.rstrip() for line in repr(found).splitlines()[3:]} <= drawn


def test_runs_side_by_side_have_several_numbers():
    tx = jopt.sgd(0.5)
    rates = jnp.array([0.25, 0.5])
    state = jax.vmap(lambda rate: jopt.set_hyperparams(tx.init(PARAMS), learning_rate=rate))(rates)
    found = jopt.summary(tx, PARAMS, state)
    assert found.numbers["sgd"]["default"]["learning_rate"] == [0.25, 0.5]
    assert "learning_rate=0.25, 0.5" in repr(found)


def test_traced_numbers_are_not_known():
    @jax.jit
    def told(rate):
        seen.append(jopt.summary(jopt.sgd(rate), PARAMS))
        return rate

    seen = []
    told(0.5)
    assert seen[0].numbers["sgd"]["default"]["learning_rate"] is None
    assert "learning_rate=unknown" in repr(seen[0])


def test_what_is_wrong_is_told():
    tx = jopt.adamw(0.5, groups=GROUPS)
    with pytest.raises(jopt.ConfigError, match="summary: this is no jopt transform"):
        jopt.summary(jopt.adamw, PARAMS)
    with pytest.raises(jopt.StateError, match="belongs to another transform"):
        jopt.summary(tx, PARAMS, jopt.sgd(0.5).init(PARAMS))
    state = jopt.adamw(0.5).init({"x": jnp.ones(2), **PARAMS})
    with pytest.raises(jopt.StateError, match=r"another configuration.*\n.*adamw/"):
        jopt.summary(tx, PARAMS, state)
    with pytest.raises(jopt.GroupError):
        jopt.summary(tx, {"w": jnp.ones(2)})


def test_a_transform_is_described_in_short_and_whole():
    steep = jopt.schedules.cosine(1e-3, 90)
    tx = jopt.chain(jopt.adamw(steep, groups=GROUPS), last=jopt.scale(2.0))
    assert "\n" not in repr(tx)
    names = dict.fromkeys(("jopt", "array"))
    names.update(jopt=jopt)
    assert eval(tx.describe(), names) == eval(repr(tx), names) == tx
    assert "\n        b2=0.999,\n" in tx.describe()
    assert tx._repr_html_().startswith("<pre>jopt.chain(")
