"""Decompositions on a CPU: of one matrix at a time, as all at once would have been."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.numerics.decompositions import eigh, orthogonal, solved_below, svd

SQUARES = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
PLAIN = {
    eigh: lambda x: tuple(jnp.linalg.eigh(x)),
    orthogonal: lambda x: jnp.linalg.qr(x)[0],
    svd: lambda x: tuple(jnp.linalg.svd(x, full_matrices=False)),
}
BATCHED = re.compile(r"custom_call @(?:lapack|blas)_\w+\(.*: \(tensor<\d+x\d+x\d+x")


def many(f):
    return lambda x: jax.tree.leaves(f(x))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("f", PLAIN, ids=lambda f: f.__name__)
def test_a_stack_has_the_digits_and_the_derivatives_of_a_batch(f):
    x = jnp.asarray(SQUARES + np.swapaxes(SQUARES, -1, -2))
    for mapped in (lambda g: g, jax.vmap):
        for ours, theirs in zip(many(mapped(f))(x), many(PLAIN[f])(x), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def cubes(g):
        return jax.grad(lambda x: sum(jnp.sum(jnp.abs(y) ** 3) for y in many(g)(x)))

    np.testing.assert_allclose(jax.vmap(cubes(f))(x), cubes(PLAIN[f])(x), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_one_matrix_may_be_solved_with_for_many():
    r, b = jnp.asarray(np.triu(SQUARES[0]) + 4 * np.eye(6)), jnp.asarray(SQUARES[1])
    expected = np.linalg.solve(np.swapaxes(r, -1, -2), b)
    np.testing.assert_allclose(jax.vmap(solved_below)(r, b), expected, rtol=1e-10)
    expected = np.linalg.solve(r[0].T[None], b)
    np.testing.assert_allclose(jax.vmap(solved_below, (None, 0))(r[0], b), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "tx",
    [
        jopt.soap(1e-3),
        jopt.shampoo(1e-3),
        jopt.kl_shampoo(1e-3),
        jopt.kron(1e-3),
        jopt.galore(jopt.adamw(1e-3), rank=2),
    ],
    ids=lambda tx: tx.name,
)
def test_no_step_decomposes_a_batch_on_a_cpu(tx):
    """A batch is dealt out among threads that then wait for each other, on two cores for ever."""
    params = {"a": jnp.ones((8, 6)), "b": jnp.ones((8, 6)), "c": jnp.ones((4, 6))}
    state = tx.init(params)
    several = jax.tree.map(lambda x: jnp.stack([x, x]), (params, state))
    text = jax.jit(jax.vmap(tx.update)).lower(several[0], several[1], several[0]).as_text()
    assert re.search("custom_call @(lapack|blas)", text)
    assert not BATCHED.search(text)


STEPS = """
import jax, jax.numpy as jnp, jopt
shapes = [(64, 128), (128, 64), (64, 32), (32, 8), (8, 32), (32, 64), (64, 128), (128, 64)]
params = {str(i): jnp.ones(shape) for i, shape in enumerate(shapes)}
for tx in (jopt.soap(1e-3, update_every=1), jopt.shampoo(1e-3, update_every=1)):
    state, step = tx.init(params), jax.jit(tx.update)
    for i in range(60):
        grads = {k: jax.random.normal(jax.random.key(i), p.shape) for k, p in params.items()}
        updates, state = jax.block_until_ready(step(grads, state, params))
print("done")
"""


@pytest.mark.slow
def test_steps_of_many_large_matrices_end_on_two_cores(monkeypatch):
    monkeypatch.setenv("NPROC", "2")
    run = [sys.executable, "-c", STEPS]
    done = subprocess.run(run, capture_output=True, text=True, timeout=400, check=True)
    assert done.stdout.strip() == "done"
