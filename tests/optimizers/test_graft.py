"""Shampoo with the step length of other optimizers, against float64 loops and against its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.catalog import BY_NAME
from tests.oracles import papers
from tests.oracles.problems import problem
from tests.oracles.test_papers import STEPS, every_argument
from tests.oracles.torch_live import Outcome, distance, jopt_run

SEEING = jopt.Spec("seeing", extra=("value",), gives="direction")
NUMBERS = {"b1": 0.5, "b2": 0.9, "ridge": 1e-3, "update_every": 3, "start": 2, "block_size": 2}


def rmsprop():
    """Its direction from each gradient in turn."""
    v = 0

    def d(g):
        nonlocal v
        v = 0.9 * v + 0.1 * g**2
        return g / (np.sqrt(v) + 1e-3)

    return d


def momentum():
    m = 0

    def d(g):
        nonlocal m
        m = 0.7 * m + g
        return m

    return d


OF = {
    "rmsprop": (jopt.rmsprop(0.3, decay=0.9, eps=1e-3, weight_decay=0.1), rmsprop),
    "sgd": (jopt.sgd(0.3, momentum=0.7), momentum),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OF)
def test_the_length_of_a_plain_loops_direction(name):
    entry, (tx, loop) = BY_NAME["shampoo"], OF[name]
    params, grads = problem(entry.ndims, STEPS)
    ours = jopt_run(jopt.shampoo(0.01, graft=tx, **NUMBERS), params, grads, np.float64)
    said = {**every_argument(entry, NUMBERS), "learning_rate": 0.01}
    theirs = {
        k: papers.shampoo(p, grads[k], **{**said, "graft": loop()}) for k, p in params.items()
    }
    assert distance(ours, Outcome(theirs)) <= 1e-10


@pytest.mark.usefixtures("x64")
def test_adam_by_name_is_adam_as_an_optimizer():
    params, grads = problem((0, 1, 2), 10)
    adam = jopt.adam(b1=0.5, b2=0.9, eps=1e-8)
    runs = [
        jopt_run(jopt.shampoo(0.01, graft=graft, **NUMBERS), params, grads, np.float64)
        for graft in ("adam", adam)
    ]
    assert distance(*runs) <= 1e-13


def test_its_numbers_and_slots_are_in_the_state():
    falls = jopt.schedules.linear(0.9, 0.5, 4)
    tx = jopt.shampoo(
        0.1,
        graft=jopt.lamb(b1=falls),
        groups={"b": jopt.group("^b$", graft_b2=0.5)},
    )
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    state = tx.init(params)
    assert {k for k in state["shampoo"] if k.startswith("graft_")} == {"graft_mu", "graft_nu"}
    g = jax.tree.map(jnp.ones_like, params)
    for _ in range(3):
        _, state = tx.update(g, state, params)
    numbers = jopt.hyperparams(state)["shampoo"]["default"]
    assert float(numbers["graft_b1"]) == pytest.approx(0.6)
    # The squares of ones, with 0.5 in the group and 0.999 elsewhere.
    np.testing.assert_allclose(state["shampoo"]["graft_nu"]["b"], 1 - 0.5**3, rtol=1e-6)
    np.testing.assert_allclose(state["shampoo"]["graft_nu"]["w"], 1 - 0.999**3, rtol=1e-4)


@pytest.mark.parametrize(
    ("graft", "why"),
    [
        (jopt.rprop(), "is its own"),
        (jopt.muon(), "not one rule that sees a leaf by itself"),
        (jopt.cautious(jopt.adam()), "jopt.cautious acts on its direction"),
        (jopt.adam(groups={"b": jopt.group("b", b1=0.5)}), "it has groups of its own"),
        (jopt.leafwise(SEEING, lambda g, s, p, h: (g, {})), "wants value of update"),
        ("lion", "graft is unknown"),
    ],
)
def test_what_there_is_no_grafting_to(graft, why):
    with pytest.raises(jopt.ConfigError, match=why):
        jopt.shampoo(graft=graft)
