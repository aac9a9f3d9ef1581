"""BERT-base with no-decay and a rate for each of 12 layers: two lines, against a plain table."""

from __future__ import annotations

import functools
import json

import jax
import numpy as np
import pytest

import jopt
from jopt.cli import main
from jopt.core.groups import key_of
from jopt.interop.torch import export_optimizer

RATE, DECAY, DEPTH, RATIO = 2e-5, 0.01, 12, 0.9
LAYERS = jopt.recipes.layer_decay(r"/layer/(\d+)/", decay=RATIO, depth=DEPTH, below="/embeddings/")
GROUPS = {"no_decay": jopt.group(r"(bias|LayerNorm/scale)$", weight_decay=0.0)} | LAYERS
TX = jopt.adamw(RATE, weight_decay=DECAY, groups=GROUPS)


def bert():
    """The leaves of BERT-base with a classifier as flax has them, tiny: `{path: array}`."""
    kernel, vector = {"kernel": (2, 2), "bias": (2,)}, {"scale": (2,), "bias": (2,)}
    blocks = {
        "bert/embeddings/LayerNorm": vector,
        "bert/pooler/dense": kernel,
        "classifier": kernel,
    }
    for name in ("word", "position", "token_type"):
        blocks[f"bert/embeddings/{name}_embeddings"] = {"embedding": (2, 2)}
    for i in range(DEPTH):
        layer = f"bert/encoder/layer/{i}"
        for name in ("self/query", "self/key", "self/value", "output/dense"):
            blocks[f"{layer}/attention/{name}"] = kernel
        blocks[f"{layer}/attention/output/LayerNorm"] = vector
        blocks |= {f"{layer}/{name}/dense": kernel for name in ("intermediate", "output")}
        blocks[f"{layer}/output/LayerNorm"] = vector
    return {f"{at}/{k}": np.ones(n) for at, of in blocks.items() for k, n in of.items()}


def deep(flat):
    """The nested dict of paths."""
    tree = {}
    for path, value in flat.items():
        *above, last = path.split("/")
        functools.reduce(lambda at, key: at.setdefault(key, {}), above, tree)[last] = value
    return tree


def table(rate=RATE, decay=DECAY, ratios=None):
    """For each leaf its learning rate and weight decay, written plainly."""
    found = {}
    for path in bert():
        keys = path.split("/")
        if keys[1] == "embeddings":
            times = RATIO ** (DEPTH + 1)
        elif keys[1] == "encoder":
            times = (ratios or {}).get(int(keys[3]), RATIO ** (DEPTH - int(keys[3])))
        else:
            times = 1.0
        bare = keys[-1] == "bias" or keys[-2:] == ["LayerNorm", "scale"]
        found[path] = rate * times, 0.0 if bare else decay
    return found


def check_steps(state, wanted):
    """What each leaf does says what it goes by: at 1, with gradient 1, it moves by η + η·λ."""
    params = deep(bert())
    updates, _ = TX.update(params, state, params)
    for path, (rate, decay) in wanted.items():
        step = functools.reduce(dict.get, path.split("/"), updates)
        np.testing.assert_allclose(step, -rate * (1 + decay), rtol=1e-7, err_msg=path)


def check(found, wanted):
    assert found.keys() == wanted.keys()
    assert len(found) == 5 + DEPTH * 16 + 4
    np.testing.assert_allclose([found[k] for k in wanted], [*wanted.values()], rtol=1e-12)


@pytest.fixture
def state(x64):
    return TX.init(deep(bert()))


def test_every_leaf_has_the_numbers_of_the_table(state):
    check_steps(state, table())


def test_the_state_has_one_number_for_each_group(state):
    node = state["adamw"]
    layers = {f"layer_{i}": RATIO ** (DEPTH - i) for i in range(DEPTH)}
    factors = {name: float(of.pop("learning_rate")) for name, of in node.pop("times").items()}
    assert factors == pytest.approx({"below": RATIO ** (DEPTH + 1), **layers})
    assert {k: set(of) for k, of in node["hyperparams"].items()} == {
        "default": {"learning_rate", "b1", "b2", "eps", "weight_decay"},
        "no_decay": {"weight_decay"},
    }
    alone = len(jax.tree.leaves(jopt.adamw().init(deep(bert()))))
    assert len(jax.tree.leaves(node)) + len(factors) == alone + DEPTH + 2


def labels():
    """For each leaf what its set of groups is called."""
    found = {}
    for path in bert():
        keys = path.split("/")
        bare = keys[-1] == "bias" or keys[-2:] == ["LayerNorm", "scale"]
        layer = {"embeddings": "below", "encoder": f"layer_{(*keys, '', '')[3]}"}.get(keys[1])
        found[path] = key_of(("no_decay",) * bare + ((layer,) if layer else ()))
    return found


def test_hyperparams_tells_each_set_of_groups(state):
    view = jopt.hyperparams(state, TX, deep(bert()))["adamw"]
    assert view.keys() == set(labels().values()) | GROUPS.keys()
    assert len(set(labels().values())) == 2 * (DEPTH + 2)
    seen = {path: view[label] for path, label in labels().items()}
    numbers = {p: (float(n["learning_rate"]), float(n["weight_decay"])) for p, n in seen.items()}
    check(numbers, table())


def test_edits_reach_the_leaves_that_they_are_of(state):
    state = jopt.set_hyperparams(state, learning_rate=3e-4, weight_decay=0.1)
    check_steps(state, table(3e-4, 0.1))
    state = jopt.set_hyperparams(state, group="layer_3", learning_rate=jopt.times(0.25))
    check_steps(state, table(3e-4, 0.1, {3: 0.25}))


def test_a_file_brings_all_of_it_back(state):
    state = jopt.set_hyperparams(state, learning_rate=3e-4)
    back = jopt.from_bytes(TX.init(deep(bert())), jopt.to_bytes(state, tx=TX), tx=TX)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, state))
    check_steps(back, table(3e-4))


def test_torch_gets_a_group_for_each_set(state):
    saved = export_optimizer(TX, deep(bert()), state, {path: path for path in bert()})
    numbers = {}
    for group in saved["param_groups"]:
        for path in group["param_names"]:
            numbers[path] = group["lr"], group["weight_decay"]
    check(numbers, table())
    assert len(saved["param_groups"]) == 2 * (DEPTH + 2)


def test_the_command_line_tells_numbers_and_factors(state, tmp_path, capsys):
    jopt.save(tmp_path / "bert.jopt", state, tx=TX)
    assert main(["inspect", str(tmp_path / "bert.jopt"), "--json", "--no-stats"]) == 0
    told = json.loads(capsys.readouterr().out)["hyperparams"]
    default = {n["name"]: n["value"] for n in told if n["group"] == "default"}
    rates = {n["group"]: n["value"] for n in told if n["name"] == "learning_rate"}
    assert (default["learning_rate"], default["weight_decay"]) == (RATE, DECAY)
    assert {n["group"]: n["value"] for n in told if n["name"] == "weight_decay"} == {
        "default": DECAY, "no_decay": 0.0
    }  # fmt: skip
    assert rates.pop("default") == RATE
    assert rates == pytest.approx({k: g.numbers["learning_rate"].factor for k, g in LAYERS.items()})
