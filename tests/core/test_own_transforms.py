"""Transforms made outside jopt print, compare, hash and pickle as its own do."""

import copy
import functools
import os
import pathlib
import pickle
import subprocess
import sys

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from tests.core import outside

MADE = outside.made()
EACH = pytest.mark.parametrize("name", MADE)


def used(tx):
    """The same transform after a step."""
    params = {"b": jnp.ones((2, 2))}
    grads = params
    if "rows" in tx.parts:
        params = params["b"]
        grads = jopt.row_gradient(jnp.array([1]), jnp.ones((1, 2)), params)
    tx.update(grads, tx.init(params), params)
    return tx


@EACH
def test_two_of_one_call_are_equal_and_print_alike(name):
    tx, other = MADE[name], outside.made()[name]
    assert tx is not other
    assert tx == other
    assert hash(tx) == hash(other)
    assert repr(tx) == repr(other)
    assert " at 0x" not in repr(tx)
    assert len({tx, other, *MADE.values()}) == len(MADE)


def test_what_they_print():
    assert repr(outside.signum(0.5)) == (
        "jopt.leafwise(spec=<Spec signum>, rule=<rule>, options={'noisy': False}, "
        "learning_rate=0.5, momentum=0.9)"
    )
    assert repr(outside.gentle(0.25)) == "outside.gentle(learning_rate=0.25)"
    assert outside.signum(0.5).name == "signum"
    assert outside.gentle().name == "gentle"
    assert outside.signum(0.5) != outside.signum(0.25)


@EACH
@pytest.mark.parametrize("when", ["before", "after"])
def test_pickles_before_and_after_use(name, when):
    tx = outside.made()[name]
    tx = used(tx) if when == "after" else tx
    for again in (
        pickle.loads(pickle.dumps(tx)),
        cloudpickle.loads(cloudpickle.dumps(tx)),
        copy.copy(tx),
        copy.deepcopy(tx),
    ):
        assert again == tx
        assert hash(again) == hash(tx)
        assert repr(again) == repr(tx)
    used(again)


def closed_over(k):
    spec = jopt.Spec(
        name="local",
        hypers=(jopt.Hyper("learning_rate", "[0, inf)"),),
        slots=(jopt.Slot("m", when=lambda _: 0),),
    )
    return jopt.leafwise(spec, lambda g, s, p, h: (-k * h.learning_rate * g, {}), learning_rate=1.0)


def test_what_cannot_be_imported_compares_by_its_code_and_what_it_closes_over():
    assert closed_over(3.0) == closed_over(3.0)
    assert hash(closed_over(3.0)) == hash(closed_over(3.0))
    assert closed_over(3.0) != closed_over(2.0)
    again = cloudpickle.loads(cloudpickle.dumps(used(closed_over(3.0))))
    assert again == closed_over(3.0)
    assert jopt.group(lambda path, leaf: True) != jopt.group(lambda path, leaf: False)


def scaled(k, g, s, p, h):
    return [k * x for x in g], {}


def test_partial_functions_compare_by_what_they_hold():
    def made(k):
        return jopt.treewise(outside.DROP, functools.partial(scaled, k))

    assert made(2.0) == made(2.0) == pickle.loads(pickle.dumps(made(2.0)))
    assert hash(made(2.0)) == hash(made(2.0))
    assert made(2.0) != made(3.0)
    assert " at 0x" not in repr(made(2.0))


def test_another_process_has_the_same(tmp_path):
    arrived = {n: [tx, used(outside.made()[n])] for n, tx in MADE.items()}
    path = tmp_path / "made.pickle"
    path.write_bytes(cloudpickle.dumps({**arrived, "by value": closed_over(3.0)}))
    plain = tmp_path / "plain.pickle"
    plain.write_bytes(pickle.dumps(arrived))
    root = pathlib.Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, "-m", "tests.core.outside", str(path)], check=True, env=env, cwd=root
    )
    assert {n: pickle.loads(pickle.dumps(tx)) for n, tx in MADE.items()} == MADE


def test_static_under_jit_it_compiles_once():
    calls = []

    def step(tx, params):
        calls.append(tx)
        return tx.update(params, tx.init(params), params)[0]

    jitted = jax.jit(step, static_argnums=0)
    params = {"b": jnp.ones(2)}
    for tx in (
        outside.signum(0.5),
        outside.signum(0.5),
        pickle.loads(pickle.dumps(outside.signum(0.5))),
    ):
        np.testing.assert_array_equal(jitted(tx, params)["b"], -0.5)
    assert len(calls) == 1


def test_a_chain_with_a_foreign_transform_prints_without_addresses():
    tx = jopt.chain(optax.trace(0.9), outside.signum(0.5), schedule=optax.scale(0.5))
    assert " at 0x" not in repr(tx)
    assert "GradientTransformation" in repr(tx)
    assert repr(tx) == repr(
        jopt.chain(optax.trace(0.9), outside.signum(0.5), schedule=optax.scale(0.5))
    )
    again = cloudpickle.loads(cloudpickle.dumps(used(tx)))
    assert again == tx
    with pytest.raises(AttributeError, match="local object"):  # optax's are closures
        pickle.dumps(tx)


def test_a_factory_that_returns_no_transform():
    @jopt.configured
    def wrong():
        return optax.sgd(0.1)

    with pytest.raises(jopt.ConfigError, match="wrong: a factory returns a transform"):
        wrong()


def test_a_decorated_factory_is_called_as_it_says():
    with pytest.raises(jopt.ConfigError, match="there is no argument 'lr'"):
        outside.gentle(lr=0.1)
    assert outside.gentle(np.float32(0.5)) == outside.gentle()
