"""Leaves in several groups: torch has one group for each set of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.interop.torch import export_optimizer, import_optimizer

GROUPS = {
    "no_decay": jopt.group("b$", weight_decay=0.0),
    "head": jopt.group("^head", learning_rate=jopt.times(0.5)),
}
TX = jopt.adamw(1e-2, weight_decay=0.1, groups=GROUPS)
WANT = [(1e-2, 0.1, [0]), (1e-2, 0.0, [1]), (5e-3, 0.0, [2]), (5e-3, 0.1, [3])]
ORDER = ["body/w", "body/b", "head/b", "head/w"]


def params():
    rng = np.random.default_rng(0)
    return {
        k: {"b": jnp.asarray(rng.normal(size=2)), "w": jnp.asarray(rng.normal(size=(2, 3)))}
        for k in ("body", "head")
    }


def test_an_export_has_a_group_for_each_set_and_goes_on_in_torch_and_back():
    with jax.enable_x64(True):
        start = params()
        state = TX.init(start)
        updates, state = TX.update(start, state, start)
        after = jopt.apply_updates(start, updates)
        saved = export_optimizer(TX, start, state)
        found = [(g["lr"], g["weight_decay"], g["params"]) for g in saved["param_groups"]]
        assert [(pytest.approx(a), b, c) for a, b, c in WANT] == found
        leaves = {name: after[name[:4]][name[5:]] for name in ORDER}
        weights = [torch.nn.Parameter(torch.tensor(np.asarray(x))) for x in leaves.values()]
        theirs = torch.optim.AdamW([{"params": [w]} for w in weights])
        theirs.load_state_dict(saved)
        for w in weights:
            w.grad = w.detach().clone()
        theirs.step()
        back = import_optimizer(TX, start, theirs.state_dict(), ORDER)
        updates, state = TX.update(after, state, after)
        ended = jopt.apply_updates(after, updates)
        for name, w in zip(ORDER, weights, strict=True):
            np.testing.assert_allclose(ended[name[:4]][name[5:]], w.detach().numpy(), rtol=1e-12)
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def changed(rates):
    start = params()
    saved = export_optimizer(TX, start, TX.init(start))
    for group, rate in zip(saved["param_groups"], rates, strict=True):
        group["lr"] = rate
    return start, saved


def test_torchs_rates_move_what_is_multiplied():
    start, saved = changed([0.2, 0.2, 0.1, 0.1])
    state = import_optimizer(TX, start, saved, ORDER)
    numbers = jopt.hyperparams(state)["adamw"]
    assert float(numbers["default"]["learning_rate"]) == pytest.approx(0.2)
    assert float(numbers["head"]["learning_rate"]) == pytest.approx(0.1)
    assert float(state["adamw"]["times"]["head"]["learning_rate"]) == 0.5


def test_a_number_that_is_only_there_multiplied_is_found():
    groups = {"all": jopt.group(".", learning_rate=jopt.times(0.5))}
    start, tx = params(), jopt.adamw(1e-2, groups=groups)
    saved = export_optimizer(tx, start, tx.init(start))
    saved["param_groups"][0]["lr"] = 0.1
    numbers = jopt.hyperparams(import_optimizer(tx, start, saved))["adamw"]
    assert float(numbers["default"]["learning_rate"]) == pytest.approx(0.2)


def test_rates_that_no_factor_explains():
    start, saved = changed([0.2, 0.2, 0.1, 0.15])
    with pytest.raises(
        jopt.CheckpointError, match=r"group 3: learning_rate is 0\.15, in adamw 0\.1 by"
    ):
        import_optimizer(TX, start, saved, ORDER)
