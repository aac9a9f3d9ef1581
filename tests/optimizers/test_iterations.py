"""What orthogonalises in Muon and its kin: other polynomials, one for each step, by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.numerics import POLAR_EXPRESS, each_step, newton_schulz
from jopt.numerics.newton_schulz import lean
from tests.oracles.papers.matrices import orthogonal

RNG = np.random.default_rng(0)
WIDE = RNG.normal(size=(1, 4, 9))
JORDAN = (3.4445, -4.7750, 2.0315)
ROW = ((3.0, -3.2, 1.2), (1.5, -0.5, 0.0))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("given", [POLAR_EXPRESS, ROW])
def test_a_polynomial_for_each_step(given):
    name = "polar_express" if given is POLAR_EXPRESS else given
    for x in (WIDE, WIDE.swapaxes(1, 2)):
        found = newton_schulz(jnp.asarray(x), given, len(given), 1e-7, jnp.float64)
        want = orthogonal(x[0], name, len(given), 1e-7, "float64")
        np.testing.assert_allclose(found[0], want, rtol=1e-12, atol=1e-14)


def test_the_last_polynomial_goes_on_and_one_is_a_row_of_it():
    assert each_step(ROW, 4) == (*ROW, ROW[1], ROW[1])
    assert each_step(JORDAN, 2) == (JORDAN, JORDAN)
    assert each_step(POLAR_EXPRESS, 0) == ()
    x = jnp.asarray(WIDE, jnp.float32)
    one, row = (newton_schulz(x, c, 3, 1e-7, jnp.float32) for c in (JORDAN, (JORDAN,)))
    assert jnp.array_equal(one, row)


@pytest.mark.slow
def test_polar_express_comes_nearer_to_one_than_jordans():
    x = jnp.asarray(RNG.normal(size=(3, 32, 96)), jnp.bfloat16)
    off = {}
    for name, c in (("jordan", JORDAN), ("express", POLAR_EXPRESS)):
        plain = newton_schulz(x, c, 5, 1e-7)
        other = lean(
            x, jnp.float32(1e-7), coefficients=c, steps=5, dtype=jnp.dtype("bfloat16"), right=False
        )
        values = [np.linalg.svd(np.asarray(y), compute_uv=False) for y in (plain, other)]
        off[name] = [np.abs(v - 1).max() for v in values]
    assert max(off["express"]) < 0.15 < min(off["jordan"])


@pytest.mark.parametrize("shape", [(0, 8), (8, 0)])
def test_matrices_without_entries(shape):
    for tx in (jopt.muon(), jopt.dion2()):
        params = {"w": jnp.zeros(shape)}
        updates, _ = jax.eval_shape(jax.jit(tx.update), params, tx.init(params), params)
        assert updates["w"].shape == shape


def test_polynomials_are_recorded_in_checkpoints(tmp_path):
    params = {"w": jnp.ones((2, 3))}
    tx = jopt.muon(ns_coefficients=ROW, ns_steps=2)
    assert eval(repr(tx)) == tx == jopt.muon(ns_coefficients=[list(x) for x in ROW], ns_steps=2)
    file = tmp_path / "state.jopt"
    jopt.save(file, tx.init(params), tx=tx)
    jopt.load(file, tx.init(params), tx=tx)
    for other in ("polar_express", ROW[::-1], JORDAN):
        with pytest.raises(jopt.CheckpointError, match="ns_coefficients"):
            jopt.load(file, tx.init(params), tx=jopt.muon(ns_coefficients=other, ns_steps=2))


@pytest.mark.parametrize("given", ["express", (), ((1.0, 2.0),), (1.0, 2.0), ((1, 2, 3), 4), 3])
def test_what_is_no_polynomial(given):
    with pytest.raises(jopt.ConfigError, match="ns_coefficients are"):
        jopt.normuon(ns_coefficients=given)


def test_dion2_takes_the_rows_with_most_to_say_and_keeps_the_others():
    tx = jopt.dion2(1.0, fraction=0.5, weight_decay=0.0, momentum=0.5)
    params = {"w": jnp.zeros((4, 8))}
    g = {"w": jnp.asarray(RNG.normal(size=(4, 8)), jnp.float32) * jnp.array([[1.0], [9], [8], [2]])}
    updates, state = jax.jit(tx.update)(g, tx.init(params), params)
    assert [bool(row.any()) for row in updates["w"]] == [False, True, True, False]
    kept = state["dion2"]["momentum_buffer"]["w"] / g["w"]
    np.testing.assert_allclose(kept, np.broadcast_to([[1], [0.5], [0.5], [1]], (4, 8)))


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_fractions_that_are_none(fraction):
    with pytest.raises(jopt.ConfigError, match="fraction is out of range"):
        jopt.dion2(fraction=fraction)
