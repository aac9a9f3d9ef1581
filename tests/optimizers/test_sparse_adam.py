"""Sparse Adam: against torch's, and that a step's cost does not grow with the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.interop.torch import optimizer
from tests.oracles.optim_db import configurations

SHAPE = (12, 3)
CASES = [
    *configurations("SparseAdam"),
    {"lr": 0.1},
    {"lr": 0.1, "betas": (0.5, 0.9)},
    {"lr": 0.1, "eps": 1e-2},
    {"lr": 0.1, "maximize": True},
]


def data(steps, dtype, repeat=True):
    rng = np.random.default_rng(0)
    table = rng.normal(size=SHAPE).astype(dtype)
    ids = [rng.choice(SHAPE[0], size=5, replace=repeat) for _ in range(steps)]
    values = [rng.normal(size=(5, SHAPE[1])).astype(dtype) for _ in range(steps)]
    return table, np.stack(ids), np.stack(values)


def in_torch(table, ids, values, kwargs):
    p = torch.nn.Parameter(torch.tensor(table))
    opt = torch.optim.SparseAdam([p], **kwargs)
    for i, v in zip(ids, values, strict=True):
        p.grad = torch.sparse_coo_tensor(
            torch.tensor(i)[None], torch.tensor(v), SHAPE, check_invariants=True
        )
        opt.step()
    return p.detach().numpy()


def in_jopt(table, ids, values, tx):
    def step(carry, batch):
        p, s = carry
        g = {"table": jopt.row_gradient(*batch, p["table"])}
        u, s = tx.update(g, s, p)
        return (jopt.apply_updates(p, u), s), None

    p = {"table": jnp.asarray(table)}
    run = jax.jit(lambda p, xs: jax.lax.scan(step, (p, tx.init(p)), xs)[0])
    return run(p, (ids, values))


@pytest.mark.parametrize("kwargs", CASES, ids=str)
def test_float64_against_torch(kwargs, x64):
    start = data(100, np.float64)
    ours, _ = in_jopt(*start, optimizer("SparseAdam", **kwargs))
    theirs = in_torch(*start, kwargs)
    np.testing.assert_allclose(ours["table"], theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("kwargs", CASES, ids=str)
def test_float32_against_torch(kwargs):
    start = data(100, np.float32)
    ours, _ = in_jopt(*start, optimizer("SparseAdam", **kwargs))
    theirs = in_torch(*start, kwargs)
    np.testing.assert_allclose(ours["table"], theirs, rtol=0, atol=3e-6 * np.abs(theirs).max())


def test_rows_without_gradient_keep_every_bit():
    table, ids, values = data(20, np.float32)
    ids = ids % 4
    ours, state = in_jopt(table, ids, values, jopt.sparse_adam(0.1))
    np.testing.assert_array_equal(ours["table"][4:], table[4:])
    np.testing.assert_array_equal(state["sparse_adam"]["mu"]["table"][4:], 0)
    assert not np.array_equal(ours["table"][:4], table[:4])


def test_repeated_rows_are_added_up():
    tx, p = jopt.sparse_adam(0.1), {"t": jnp.ones((4, 2))}
    twice = {"t": jopt.row_gradient([1, 1], jnp.array([[1.0, 2.0], [3.0, 4.0]]), p["t"])}
    once = {"t": jopt.row_gradient([1], jnp.array([[4.0, 6.0]]), p["t"])}
    a, b = (jopt.apply_updates(p, tx.update(g, tx.init(p), p)[0]) for g in (twice, once))
    np.testing.assert_array_equal(a["t"], b["t"])


def test_half_precision_rows_round_once():
    p = {"t": jnp.ones((4, 2), jnp.bfloat16)}
    tx = jopt.sparse_adam(0.1)
    g = {"t": jopt.row_gradient([2], jnp.ones((1, 2), jnp.bfloat16), p["t"])}
    u, _ = tx.update(g, tx.init(p), p)
    new = jopt.apply_updates(p, u)["t"]
    assert new.dtype == jnp.bfloat16
    np.testing.assert_array_equal(new[2], jnp.bfloat16(0.9))
    np.testing.assert_array_equal(new[0], jnp.bfloat16(1.0))


def test_no_operation_of_a_step_reads_or_writes_the_whole_table():
    """Counted in the compiled program: beside the tables themselves nothing has their size."""

    def work(rows):
        p = {"t": jax.ShapeDtypeStruct((rows, 8), jnp.float32)}
        tx = jopt.sparse_adam(0.1)

        def step(p, s, ids, values):
            g = {"t": jopt.row_gradient(ids, values, p["t"])}
            u, s = tx.update(g, s, p)
            return jopt.apply_updates(p, u), s

        ids = jax.ShapeDtypeStruct((16,), jnp.int32)
        values = jax.ShapeDtypeStruct((16, 8), jnp.float32)
        state = jax.eval_shape(tx.init, p)
        return jax.jit(step, donate_argnums=(0, 1)).lower(p, state, ids, values).compile()

    small, large = work(10_000), work(10_000_000)
    assert large.memory_analysis().temp_size_in_bytes == small.memory_analysis().temp_size_in_bytes
    assert large.memory_analysis().alias_size_in_bytes > 3 * 10_000_000 * 8 * 4
    copies = [line for line in large.as_text().splitlines() if " copy(" in line]
    assert not [line for line in copies if "10000000" in line]


def test_dense_gradients_are_refused():
    p = {"emb": {"t": jnp.ones((4, 2))}}
    tx = jopt.sparse_adam()
    with pytest.raises(jopt.TreeError, match=r"row-sparse gradients only\n  at:       emb/t"):
        tx.update(p, tx.init(p), p)


def test_sparse_gradients_are_refused_by_dense_optimizers():
    p = {"t": jnp.ones((4, 2))}
    tx = jopt.adam()
    g = {"t": jopt.row_gradient([1], jnp.ones((1, 2)), p["t"])}
    with pytest.raises(jopt.TreeError, match="dense gradients only"):
        tx.update(g, tx.init(p), p)


def test_values_must_fit_their_rows():
    with pytest.raises(jopt.TreeError, match=r"expected: \(2, 3\)\n  found:    \(3, 3\)"):
        jopt.row_gradient([1, 2], jnp.ones((3, 3)), jnp.ones((5, 3)))
