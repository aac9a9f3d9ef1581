"""A leaf that goes another way starts anew there; the others keep every bit, and a report tells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.core.helpers import same

PARAMS = {
    "mlp": {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.ones(4)},
    "head": {"kernel": jnp.linspace(1, 2, 8).reshape(4, 2)},
}


def routes(pattern, **more):
    return jopt.route(jopt.adamw(0.1), m=(pattern, jopt.muon(0.1)), **more)


WRAPPED = {
    "bare": lambda tx: tx,
    "wrapped": lambda tx: jopt.ema(
        jopt.accumulate(jopt.chain(jopt.clip_by_global_norm(1.0), tx), every=1)
    ),
    "masters": lambda tx: jopt.skip_nonfinite(jopt.master_weights(tx)),
}


def inner(state):
    while "route" not in state:
        [state] = [n["inner"] for n in state.values() if "inner" in n]
    return state["route"]["inner"]


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("there", [True, False], ids=["to muon", "to adamw"])
@pytest.mark.sampled
def test_a_leaf_that_changes_routes_starts_anew_and_no_other(wrap, there):
    patterns = ("^mlp/kernel", "kernel$")
    old, new = (wrap(routes(p)) for p in (patterns if there else patterns[::-1]))
    params, state = PARAMS, old.init(PARAMS)
    for _ in range(3):
        params, state = jopt.step(old, PARAMS, state, params)
    moved, report = jopt.extend(new, state, params, report=True)
    assert jax.tree.structure(moved) == jax.tree.structure(new.init(params)) or "leaf_count" in str(
        moved
    )
    fresh, before, after = inner(new.init(params)), inner(state), inner(moved)
    to, kept = ("muon", "adamw") if there else ("adamw", "muon")
    slot = "momentum_buffer" if there else "mu"
    same(after[to][slot]["head"], fresh[to][slot]["head"])
    same(after[to][slot]["mlp"].get("kernel"), before[to][slot]["mlp"].get("kernel"))
    same(after["adamw"]["mu"]["mlp"]["bias"], before["adamw"]["mu"]["mlp"]["bias"])
    assert "head" not in after[kept]["mu" if there else "momentum_buffer"]
    [(label, names)] = report.fresh.items()
    assert label.endswith(f"route/{to}")
    assert names == ("head/kernel",)
    [(label, names)] = report.dropped.items()
    assert label.endswith(f"route/{kept}")
    assert names == ("head/kernel",)

    # From here on it is a first step of its new optimizer, and no other leaf notices.
    updates, _ = new.update(PARAMS, moved, params)
    alone, _ = new.update(PARAMS, new.init(params), params)
    stays, _ = old.update(PARAMS, state, params)
    np.testing.assert_allclose(updates["head"]["kernel"], alone["head"]["kernel"], rtol=2e-6)
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(updates["mlp"][name], stays["mlp"][name], rtol=1e-6)


def test_a_route_may_come_and_go():
    two = routes("^mlp/kernel")
    three = routes("^mlp/kernel", s=("^head", jopt.sgd(0.1, momentum=0.9)))
    state, report = jopt.extend(three, two.init(PARAMS), PARAMS, report=True)
    assert report.fresh == {"route/sgd": ("head/kernel",)}
    assert report.dropped == {"route/adamw": ("head/kernel",)}
    three.update(PARAMS, state, PARAMS)
    back, report = jopt.extend(two, state, PARAMS, report=True)
    assert report.fresh == {"route/adamw": ("head/kernel",)}
    assert set(back["route"]["inner"]) == {"adamw", "muon"}


def test_a_leaf_that_is_gone_altogether_is_an_error():
    tx = routes("kernel$")
    state = tx.init(PARAMS)
    for name in ("mlp", "head"):
        fewer = {k: v for k, v in PARAMS.items() if k != name}
        with pytest.raises(jopt.JoptError, match=r"extend only adds leaves|matches no leaf"):
            jopt.extend(routes("^head|^mlp/kernel"), state, fewer)


def test_all_other_routes_are_another_transform():
    other = jopt.route(jopt.sgd(0.1), m=("kernel$", jopt.adam()))
    with pytest.raises(jopt.StateError, match="the routes of this state are all others"):
        jopt.extend(other, routes("kernel$").init(PARAMS), PARAMS)


def test_the_report_tells_of_new_unfrozen_and_frozen_leaves():
    frozen = jopt.adamw(groups={"still": jopt.group("^head", freeze=True)})
    state = frozen.init(PARAMS)
    grown, report = jopt.extend(jopt.adamw(), state, PARAMS, report=True)
    assert (report.fresh, report.dropped) == ({"adamw": ("head/kernel",)}, {})
    _, report = jopt.extend(frozen, grown, PARAMS, report=True)
    assert (report.fresh, report.dropped) == ({}, {"adamw": ("head/kernel",)})
    assert str(report) == "given up       adamw: head/kernel"
    same_state, report = jopt.extend(frozen, state, PARAMS, report=True)
    same(same_state, state)
    assert str(report) == "nothing started anew"
    wider = {**PARAMS, "a/b": jnp.ones(2)}
    _, report = jopt.extend(jopt.ema(frozen), jopt.ema(frozen).init(PARAMS), wider, report=True)
    assert report.fresh == {"adamw": ("a~1b",), "ema": ("a~1b",)}
