"""Work on stacks: some rows after the other come to what all at once do."""

import jax
import jax.numpy as jnp
import pytest

from jopt.numerics import in_shares, shares

GIVEN = {"x": jnp.arange(35.0).reshape(7, 5)}
HELD = {"x": jnp.ones((7, 5)), "y": jnp.zeros(7)}


def work(given, held):
    return {"x": held["x"] + given["x"], "y": held["y"] + jnp.sum(given["x"], 1)}


@pytest.mark.parametrize("at_once", [1, 60, 80], ids=lambda n: f"{n} bytes")
def test_some_rows_of_a_stack_after_the_other(at_once, monkeypatch):
    monkeypatch.setattr(shares, "AT_ONCE", at_once)
    due, all_of = in_shares(work, [GIVEN], jnp.int32(0), 10, spread=False)
    assert due
    (found,) = all_of([HELD])
    whole = work(GIVEN, HELD)
    assert all(jnp.array_equal(found[k], whole[k]) for k in whole)
    program = str(jax.make_jaxpr(all_of)([HELD]))
    assert ("while" in program or "scan" in program) == (at_once < 80)


def test_each_row_has_one_turn_of_its_own():
    held = [HELD]
    for turn in range(4):
        due, some = in_shares(work, [GIVEN], jnp.int32(turn), 4, spread=True)
        held = some(held) if due else held
    whole = work(GIVEN, HELD)
    assert all(jnp.array_equal(held[0][k], whole[k]) for k in whole)
