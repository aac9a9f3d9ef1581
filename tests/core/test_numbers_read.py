"""Groups that the linear algebra does not tell apart are one batch, and all others are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.core.numbers_read import numbers_read
from jopt.numerics import as_one

NUMBERS = ("learning_rate", "b1", "eps")


def read(batch, prepare=None, slots=(), spread=None, **static):
    return numbers_read(batch, spread, prepare, slots, NUMBERS, {}, static)


def prepare(h):
    return {"k": 1 / (1 - h.b1**h.t)}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (read(lambda x, h: x), set()),
        (read(lambda x, h: x * h.eps), {"eps"}),
        (read(lambda x, h: x if h.steps == 2 else x * h.eps, steps=2), set()),
        (read(lambda x, h: x * h.k, prepare), {"b1"}),
        (read(lambda x, h: x, prepare), set()),
        (read(lambda x, h: x, spread=lambda x, h, over: x * h.eps), {"eps"}),
        (read(lambda x, s, h: (x, {"mu": h.b1 * s.mu}), slots=(jopt.Slot("mu"),)), {"b1"}),
        # In doubt: what sees all, asks for what is not known yet, or fails on a small matrix.
        (read(lambda x, h: x * vars(h)["eps"]), {*NUMBERS}),
        (read(lambda x, h: x * getattr(h, "value", 1)), {*NUMBERS}),
        (read(lambda x, h: x.reshape(7, -1)), {*NUMBERS}),
    ],
)
def test_what_is_read_is_found_out(found, wanted):
    assert found == wanted


SPEC = jopt.Spec(
    "counted",
    (jopt.Hyper("learning_rate"), jopt.Hyper("power")),
    gives="direction",
    ndim=2,
)


def rule(g, s, p, h):
    x = yield g
    return x, {}


def test_groups_are_one_batch_unless_it_reads_what_they_have():
    seen = []

    def batch(x, h):
        if len(x) > 1 or x.shape[1:] != (2, 3):
            seen.append(len(x))
        return h.power * x

    groups = {
        "slow": jopt.group("^a", learning_rate=0.1),
        "faster": jopt.group("^b", learning_rate=jopt.times(3)),
        "strong": jopt.group("^c", power=2.0),
        "both": jopt.group("^d", power=2.0, learning_rate=0.1),
    }
    tx = jopt.matrixwise(SPEC, rule, batch, learning_rate=1.0, power=1.0, groups=groups)
    params = {name: jnp.ones((4, 5)) for name in ("a1", "a2", "b1", "c1", "d1", "e1")}
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert sorted(seen) == [1, 1, 4]  # those of one power, and the groups that have another
    for name, wanted in {"a1": 0.1, "a2": 0.1, "b1": 3, "c1": 2, "d1": 0.2, "e1": 1}.items():
        np.testing.assert_allclose(updates[name], -wanted * np.ones((4, 5)), rtol=1e-6)


def test_what_a_batch_reads_that_yields():
    def batch(x, h):
        y = yield as_one(lambda x: h.eps * x), x
        return y

    assert read(batch) == {"eps"}
