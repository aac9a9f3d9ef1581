"""Containers that check what they hold: nothing but arrays is ever put in the place of a leaf."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.core.tree import layout_of
from tests.core.helpers import same


@jax.tree_util.register_pytree_with_keys_class
class Checked:
    """As attrs makes them with validators: the check runs whenever one is built."""

    def __init__(self, w: Any, b: Any) -> None:
        for x in (w, b):
            if not isinstance(x, jax.Array):
                raise TypeError(f"no array: {x!r}")
        self.w, self.b = w, b

    def tree_flatten_with_keys(self):
        keys = map(jax.tree_util.GetAttrKey, ("w", "b"))
        return tuple(zip(keys, (self.w, self.b), strict=True)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@flax.struct.dataclass
class Struct:
    w: Any
    b: Any

    def __post_init__(self) -> None:
        assert isinstance(self.w, jax.Array), self.w
        assert isinstance(self.b, jax.Array), self.b


class Module(eqx.Module):
    w: Any
    b: Any

    def __check_init__(self) -> None:
        assert isinstance(self.w, jax.Array), self.w


KINDS = (Checked, Struct, Module)
W, B = jnp.cos(jnp.arange(6.0)).reshape(2, 3), jnp.ones(3)
CHAIN = jopt.chain(
    jopt.clip_by_global_norm(1.0),
    foreign=optax.scale_by_adam(),
    adamw=jopt.adamw(0.1, groups={"b": jopt.group("^layer/b$", weight_decay=0.0)}),
)
TRANSFORMS = {
    "chain": CHAIN,
    "wrapped": jopt.ema(jopt.accumulate(jopt.master_weights(jopt.sgd(0.1, momentum=0.9)), 2)),
    "routed": jopt.route(jopt.adamw(0.1), w=("w$", jopt.muon(0.1))),
}


def plain(w, b):
    return {"w": w, "b": b}


@pytest.mark.parametrize("tx", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.optimized
def test_the_numbers_are_those_of_a_dict(tx):
    def run(kind):
        params = {"layer": kind(W, B)}
        state = tx.init(params)
        step = jax.jit(lambda s, p: jopt.step(tx, jax.tree.map(jnp.sin, p), s, p))
        for _ in range(2):
            params, state = step(state, params)
        updates, _ = tx.update(jax.tree.map(jnp.sin, params), state, params)
        return jopt.apply_updates(params, updates), state

    want, its_state = run(plain)
    for kind in KINDS:
        params, state = run(kind)
        assert isinstance(params["layer"], kind)
        same(state, its_state)
        for name in ("w", "b"):
            same(getattr(params["layer"], name), want["layer"][name])


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_states_are_carried_over_saved_and_placed(kind):
    tx = jopt.ema(jopt.adamw(0.1, groups={"b": jopt.group("b$", weight_decay=0.0)}))
    one = {"layer": kind(W, B)}
    two = {**one, "more": kind(B, W)}
    assert layout_of("t", two).names == ("layer/w", "layer/b", "more/w", "more/b")
    state = jopt.extend(tx, tx.init(one), two)
    twins = {"layer": plain(W, B)}, {"layer": plain(W, B), "more": plain(B, W)}
    same(state, jopt.extend(tx, tx.init(twins[0]), twins[1]))
    everything = {"params": two, "state": state}
    again = jopt.from_bytes(everything, jopt.to_bytes(everything))
    assert isinstance(again["params"]["more"], kind)
    same(again, everything)
    assert isinstance(jopt.eval_params(state, two)["more"], kind)
    small = jopt.adamw(0.1, state_dtype="bfloat16")
    same(jopt.convert_state(small, jopt.adamw(0.1).init(two), two), small.init(two))
    mesh = jax.make_mesh((2,), ("x",))
    placed = jax.device_put(two, jax.NamedSharding(mesh, jax.P()))
    assert jopt.sharding.init(tx, placed)["ema"]["average"]["more"]["w"].shape == (3,)


def by_label(tx):
    return optax.partition({"a": tx, "still": optax.set_to_zero()}, {"layer": "a", "out": "still"})


def by_mask(tx):
    return optax.masked(tx, {"layer": True, "out": False})


@pytest.mark.parametrize("within", [by_label, by_mask])
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_optax_may_mask_leaves(kind, within):
    params = {"layer": kind(W, B), "out": jnp.ones(2)}

    def run(tx):
        updates, state = jax.jit(tx.update)(params, tx.init(params), params)
        return jax.tree.leaves(tx.update(params, state, params)[0]), jax.tree.structure(updates)

    ours, structure = run(within(jopt.adamw(0.1)))
    theirs, wanted = run(within(optax.adamw(0.1, weight_decay=1e-2)))
    assert structure == wanted
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4)  # optax rounds its bias correction


@pytest.mark.parametrize(
    "tx",
    [
        optax.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(0.1, groups={"w": jopt.group("w")})),
        jopt.ema(jopt.accumulate(jopt.chain(optax.scale_by_adam(), jopt.sgd(0.1)), 2)),
        jopt.lbfgs(),
    ],
    ids=["chain", "wrapped", "lbfgs"],
)
def test_optax_finds_the_copies_of_the_parameters(tx):
    # By an `init` with a container that has no leaves in their place.
    params = {"w": W, "more": {"b": B}}
    state = tx.init(params)
    found = optax.tree.map_params(
        tx,
        lambda x, mark: mark,
        state,
        {"w": "w", "more": {"b": "b"}},
        transform_non_params=lambda _: "none",
    )
    ends = ([jax.tree_util.DictKey("w")], [jax.tree_util.DictKey(k) for k in ("more", "b")])
    for path, mark in jax.tree.leaves_with_path(found):
        own = [end for end in ends if [*path][-len(end) :] == end]
        assert mark == (own[0][-1].key if own else "none"), path


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_frozen_leaves_are_arrays_too(kind):
    lbfgs = jopt.lbfgs(0.1, max_iter=2, groups={"b": jopt.group("b$", freeze=True)})

    def run(kind):
        params = {"layer": kind(W, B)}

        def loss(p):
            return sum(jnp.sum((x - 0.5) ** 2) for x in jax.tree.leaves(p))

        tx = jopt.accumulate(lbfgs, 1)
        value, grads = jax.value_and_grad(loss)(params)
        extra = {"value": value, "grad": grads, "value_fn": loss}
        return tx.update(grads, tx.init(params), params, **extra)

    (updates, state), (wanted, its_state) = run(kind), run(plain)
    assert isinstance(updates["layer"], kind)
    same(state, its_state)
    same(updates["layer"].w, wanted["layer"]["w"])
    assert not updates["layer"].b.any()
