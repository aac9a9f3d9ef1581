"""Stages in every place where an optimizer may stand, and what does not go with them."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
import jopt.interop.optax
import jopt.interop.torch
from jopt.checkpoint.config import configuration
from jopt.core import doors

P = {"b": jnp.array([0.5, -1.0, 2.0]), "w": jnp.array([[1.0, -2.0], [3.0, 0.25]])}
G = {"b": jnp.array([1.0, -0.5, -3.0]), "w": jnp.array([[-2.0, 1.0], [0.125, 4.0]])}
STAGES = {
    "cautious": jopt.cautious,
    "cautious_decay": jopt.cautious_decay,
    "grams": jopt.grams,
    "hyperball": jopt.hyperball,
    "stable": jopt.stable,
    "trust_ratio": jopt.trust_ratio,
}
ALONE = {
    "cautious": partial(jopt.cautious, normalize=None),
    "cautious_decay": jopt.cautious_decay,
    "grams": jopt.grams,
}
every = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
ADAMW = jopt.adamw(0.1, weight_decay=0.1)


def error(kind, make, *args, **kwargs):
    with pytest.raises(kind) as caught:
        make(*args, **kwargs)
    return str(caught.value)


def ran(tx, grads=(G,), params=P):
    """The parameters after these steps."""
    state, step = tx.init(params), jax.jit(partial(jopt.step, tx))
    for g in grads:
        params, state = step(g, state, params)
    return params


def near(found, want):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-7), found, want)


@every
def test_inside_what_holds_optimizers(stage):
    """A chain, a route of which one leaf goes elsewhere, rounds of two, groups of one's own."""
    turned = jax.tree.map(jnp.negative, G)
    frozen = {"b": jopt.group("^b$", freeze=True)}
    tx = jopt.accumulate(
        jopt.chain(
            jopt.clip_by_value(1e3),
            jopt.route(
                jopt.sgd(0.5),
                w=("w", jopt.adamw(0.2, weight_decay=0.1, groups={"w": jopt.group("w", b1=0.5)})),
            ),
        ),
        every=2,
    )
    bare = stage(jopt.adamw(0.2, b1=0.5, weight_decay=0.1))
    if stage is jopt.cautious_decay:  # the other route has none
        assert "sgd" in error(jopt.ConfigError, stage, tx)
    else:
        near(ran(stage(tx), (G, G))["w"], ran(bare)["w"])
    near(ran(stage(jopt.adamw(0.2, b1=0.5, weight_decay=0.1, groups=frozen)))["w"], ran(bare)["w"])
    up = stage(jopt.adamw(0.2, b1=0.5, weight_decay=0.1, maximize=True))
    near(ran(up, (turned,)), ran(bare))
    assert eval(repr(bare), {"jopt": jopt}) == bare


@pytest.mark.sampled
@pytest.mark.parametrize("stage", [s for s in STAGES.values() if s != jopt.cautious_decay])
def test_complex_numbers_are_pairs(stage):
    z, dz = (jax.lax.complex(x["w"][:, 0], x["w"][:, 1]) for x in (P, G))
    tx = stage(jopt.adam(0.1, weight_decay=0.1))
    found = ran(tx, ({"z": dz},), {"z": z})["z"]
    near(jnp.stack([found.real, found.imag], -1), ran(tx, (G,), P)["w"])


@pytest.mark.sampled
@pytest.mark.parametrize("stage", [*STAGES.values(), *ALONE.values()])
def test_eight_bits_take_the_same_first_step(stage, monkeypatch):
    # It is of what was computed, before that is rounded.
    rng = np.random.default_rng(0)
    p, g = ({"w": jnp.asarray(rng.normal(size=(16, 256)), jnp.float32)} for _ in range(2))
    want = ran(stage(ADAMW), (g,), p)
    narrow = jopt.adamw(0.1, weight_decay=0.1, state_dtype="int8")
    near(ran(stage(narrow), (g,), p), want)
    fused = jopt.adamw(0.1, weight_decay=0.1, state_dtype="int8", kernel="pallas")
    if stage not in ALONE.values():
        assert "sees other entries too" in error(jopt.ConfigError, stage, fused)
        return
    calls = []
    interpreted = lambda kernel, _: calls.append(1) or partial(kernel, interpret=True)  # noqa: E731
    monkeypatch.setattr(doors, "on_cuda", interpreted)
    near(ran(stage(fused), (g,), p), want)
    assert calls


def test_numbers_are_data():
    tx = jopt.stable(jopt.trust_ratio(ADAMW, max_ratio=jopt.schedules.linear(1.0, 0.0, 4)))
    state = tx.init(P)
    numbers = jopt.hyperparams(state)["adamw"]["default"]
    own = {"max_ratio": 1.0, "max_rms": 1.0, "trust_coefficient": 1.0, "trust_eps": 0.0}
    assert {k: float(numbers[k]) for k in own} == own
    assert not {"min_norm", "max_norm"} & numbers.keys()
    state = jopt.set_hyperparams(state, trust_coefficient=0.0)
    near(jopt.step(tx, G, state, P)[0], P)
    said = error(jopt.ConfigError, jopt.set_hyperparams, state, max_rms=0.0)
    assert "max_rms is out of range" in said
    assert "max_rms is out of range" in error(jopt.ConfigError, jopt.stable, ADAMW, max_rms=-1.0)


def test_a_direction_keeps_what_acts_on_it():
    tx = jopt.direction(jopt.trust_ratio(jopt.cautious(jopt.adam())))
    updates, _ = tx.update(G, tx.init(P), P)
    whole = jopt.trust_ratio(jopt.cautious(jopt.adam(0.5)))
    near(updates, jax.tree.map(lambda p, q: (p - q) / 0.5, P, ran(whole)))
    said = error(jopt.ConfigError, jopt.direction, jopt.hyperball(jopt.adam()))
    assert "hyperball acts on the step of adam" in said
    assert "update needs the parameters" in error(jopt.TreeError, tx.update, G, tx.init(P))


def test_steps_that_have_the_learning_rate_in_them():
    tx = jopt.adafactor(0.1, weight_decay=0.0)
    d = jax.tree.map(jnp.subtract, P, ran(tx))
    near(ran(jopt.grams(tx)), jax.tree.map(lambda p, d, g: p - jnp.sign(g) * abs(d), P, d, G))


def test_a_leaf_that_begins_at_zero_has_no_sphere():
    zero = jax.tree.map(jnp.zeros_like, P)
    near(ran(jopt.hyperball(ADAMW), (G,), zero), ran(jopt.adamw(0.1), (G,), zero))


def test_of_rows_each_entry_alone():
    rows = jopt.row_gradient(jnp.array([1]), G["w"][:1], P["w"])
    tx = jopt.sparse_adam(0.1)
    found = ran(jopt.grams(tx), ({"w": rows},), {"w": P["w"]})["w"]
    near(found, ran(tx, ({"w": rows},), {"w": P["w"]})["w"])  # at the first step they agree
    assert "needs all entries" in error(jopt.ConfigError, jopt.trust_ratio, tx)


SUM = jopt.Spec("sum_of_all", (jopt.Hyper("learning_rate"),), gives="direction")


def test_a_rule_of_all_leaves_gets_it_for_each():
    def rule(g, s, p, h):
        return [sum(jnp.sum(x) for x in g) + 0 * x for x in g], {}

    found = ran(jopt.hyperball(jopt.treewise(SUM, rule, learning_rate=0.1), relative=False))
    total = sum(float(x.sum()) for x in jax.tree.leaves(G))
    for k, p in P.items():
        moved = np.asarray(p) - 0.1 * total
        near(found[k], np.linalg.norm(p) * moved / np.linalg.norm(moved))


def test_what_does_not_go_together():
    refuses = partial(error, jopt.ConfigError)
    assert "there is no optimizer here" in refuses(jopt.grams, jopt.clip_by_norm(1.0))
    for tx in (jopt.lbfgs(), jopt.asgd()):
        assert "is its own" in refuses(jopt.cautious, tx)
    assert "is its own" in refuses(jopt.stable, jopt.adafactor())
    assert "adam has it already" in refuses(jopt.grams, jopt.grams(jopt.adam()))
    assert "before there is an update" in refuses(jopt.cautious_decay, jopt.adam())
    assert "has no decay" in refuses(jopt.cautious_decay, jopt.hyperball(ADAMW))
    assert "'count', 'mean' or None" in refuses(jopt.cautious, ADAMW, normalize="sum")
    assert "'lamb' or 'lars'" in refuses(jopt.trust_ratio, ADAMW, form="larc")
    along = jopt.chain(jopt.direction(jopt.adam()), jopt.scale_by_learning_rate(0.1))
    assert "the direction of adam, not the gradient" in refuses(jopt.cautious, along)
    near(ran(jopt.trust_ratio(along)), ran(jopt.trust_ratio(jopt.adam(0.1))))
    clash = jopt.Spec("clash", (jopt.Hyper("learning_rate"), jopt.Hyper("max_rms")), gives="step")
    own = jopt.leafwise(clash, lambda g, s, p, h: (g, {}), learning_rate=0.1, max_rms=1.0)
    assert "is its own" in refuses(jopt.stable, own)
    clash = jopt.Spec("clash_2", clash.hypers, gives="direction")
    own = jopt.leafwise(clash, lambda g, s, p, h: (g, {}), learning_rate=0.1, max_rms=1.0)
    assert "clash_2 has a 'max_rms' of its own" in refuses(jopt.stable, own)


def test_checkpoints_know_them(tmp_path):
    tx, path = jopt.hyperball(ADAMW), tmp_path / "state.jopt"
    assert configuration(tx)["adamw"]["stages"] == [{"stage": "hyperball", "relative": True}]
    assert "stages" not in configuration(ADAMW)["adamw"]
    jopt.save(path, tx.init(P), tx=tx)
    again = jopt.load(path, like=tx.init(P), tx=tx)
    np.testing.assert_allclose(again["adamw"]["radius"]["w"], np.linalg.norm(P["w"]), rtol=1e-6)
    flat = jopt.hyperball(ADAMW, relative=False)
    assert "stages" in error(jopt.CheckpointError, jopt.load, path, like=flat.init(P), tx=flat)


def test_other_libraries_do_not():
    tx, plain = jopt.cautious(ADAMW), ADAMW.init(P)
    theirs = jopt.interop.torch.export_optimizer(ADAMW, P, plain)
    for call in (
        partial(jopt.interop.torch.export_optimizer, tx, P, tx.init(P)),
        partial(jopt.interop.torch.import_optimizer, tx, P, theirs),
    ):
        assert "torch has no adamw with jopt.cautious" in error(jopt.ConfigError, call)
    ours = optax.adamw(0.1).init(P)
    for call in (
        partial(jopt.interop.optax.export_state, tx, P, tx.init(P), ours),
        partial(jopt.interop.optax.import_state, tx, P, ours),
    ):
        assert "optax has no adamw with jopt.cautious" in error(jopt.ConfigError, call)
    numbers = jopt.hyperparams(jopt.extend(jopt.stable(ADAMW), plain, P))["adamw"]["default"]
    assert numbers["max_rms"] == 1
    ball = jopt.hyperball(ADAMW).init(P)
    went_on, _ = jopt.load_state_dict(ball, jopt.state_dict(plain), strict=False)
    assert went_on["adamw"]["radius"].keys() == P.keys()
