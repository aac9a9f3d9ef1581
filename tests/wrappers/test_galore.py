"""GaLore: the paper's lines around Adam, optax live, and what an optimizer keeps of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest

import jopt
from jopt.interop.optax import export_state, import_state
from tests.wrappers.runs import close, grad, run

START = {
    "b": np.linspace(-1.0, 1.0, 3),
    "tall": np.sin(np.arange(15.0)).reshape(5, 3),
    "wide": np.cos(np.arange(24.0)).reshape(4, 6),
}
RATE, GAP, RANK, SCALE, DECAY = 0.05, 7, 2, 0.25, 0.1


def basis(g, left):
    u, _, v = np.linalg.svd(g, full_matrices=False)
    p = (u if left else v.T)[:, :RANK]
    return p * np.sign(p[np.abs(p).argmax(0), np.arange(RANK)])


def by_hand(steps, shorter=True):
    p = {n: x.copy() for n, x in START.items()}
    m, v, space = dict.fromkeys(p, 0.0), dict.fromkeys(p, 0.0), {}
    for t in range(steps):
        for n, x in p.items():
            g = grad(x, t)
            matrix, left = x.ndim == 2, x.ndim == 2 and (x.shape[0] <= x.shape[1]) == shorter
            if matrix:
                space[n] = basis(g, left) if t % GAP == 0 else space[n]
                g = space[n].T @ g if left else g @ space[n]
            m[n] = 0.9 * m[n] + 0.1 * g
            v[n] = 0.999 * v[n] + 0.001 * g**2
            d = m[n] / (1 - 0.9 ** (t + 1)) / (np.sqrt(v[n] / (1 - 0.999 ** (t + 1))) + 1e-8)
            if matrix:
                d = SCALE * (space[n] @ d if left else d @ space[n].T)
            p[n] = x - RATE * DECAY * x - RATE * d
    return p


@pytest.mark.parametrize("side", ["shorter", "longer"])
def test_the_papers_lines_around_adamw(side, x64):
    base = jopt.adamw(RATE, weight_decay=DECAY)
    tx = jopt.galore(base, rank=RANK, update_proj_gap=GAP, scale=SCALE, side=side)
    [*_, (params, state)] = run(tx, 50, START)
    close(params, by_hand(50, side == "shorter"))
    shapes = {k: x.shape for k, x in state["adamw"]["mu"].items()}
    low = {"shorter": ((5, 2), (2, 6)), "longer": ((2, 3), (4, 2))}[side]
    assert shapes == {"b": (3,), "tall": low[0], "wide": low[1]}


OPTAX = {"rank": RANK, "update_proj_gap": 60, "scale": SCALE}


def test_optax_goes_over_and_back():
    # In float32, as optax's singular vectors are, whose signs make no difference in one subspace.
    theirs = optax.contrib.galore(RATE, **OPTAX, weight_decay=DECAY)
    tx = jopt.galore(jopt.adamw(RATE, weight_decay=DECAY), **OPTAX, side="longer")
    params = jax.tree.map(lambda x: jnp.asarray(x, "float32"), START)

    def runs(tx, params, state, steps):
        step = jax.jit(lambda g, s, p: tx.update(g, s, p))
        for t in steps:
            updates, state = step(jax.tree.map(lambda p, t=t: grad(p, t), params), state, params)
            params = jopt.apply_updates(params, updates)
        return params, state

    with jax.numpy_dtype_promotion("standard"):
        reached, old = runs(theirs, params, theirs.init(params), range(20))
        found, _ = runs(tx, params, tx.init(params), range(20))
        close(found, reached, 1e-4)
        want, _ = runs(theirs, reached, old, range(20, 30))
        state = import_state(tx, reached, old)
        found, _ = runs(tx, reached, state, range(20, 30))
        close(found, want, 1e-5)
        back = export_state(tx, reached, state, theirs.init(params))
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(old), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_stack_of_matrices_is_matrices_and_full_rank_is_the_optimizer(x64):
    stack = {"s": np.sin(np.arange(30.0)).reshape(2, 3, 5)}
    rows = {f"s{i}": x for i, x in enumerate(stack["s"])}
    both = [
        run(
            jopt.galore(jopt.sgd(0.1, momentum=0.9, axes=axes), rank=2, update_proj_gap=3), 8, start
        )[-1][0]
        for axes, start in (({"s": "layer ..."}, stack), (None, rows))
    ]
    close(both[0]["s"], np.stack([*both[1].values()]))
    base = jopt.sgd(0.1, momentum=0.9)  # linear in the gradient, so that a basis changes nothing
    close(run(jopt.galore(base, update_proj_gap=50), 8, rows)[-1][0], run(base, 8, rows)[-1][0])


def test_what_cannot_work_in_a_subspace():
    refused = {
        "a stage reads": jopt.stable(jopt.adamw()),
        "more than one leaf": jopt.prodigy(),
        "in start": jopt.madgrad(),
        "its step is its own": jopt.lbfgs(),
        "no optimizer": jopt.identity(),
        "has a 'scale'": jopt.galore(jopt.adamw()),
    }
    for words, tx in refused.items():
        with pytest.raises(jopt.ConfigError, match=words):
            jopt.galore(tx)
    for wrong in ({"rank": 0}, {"update_proj_gap": 0}, {"scale": -1.0}, {"side": "left"}):
        with pytest.raises(jopt.ConfigError):
            jopt.galore(jopt.adamw(), **wrong)
    with pytest.raises(jopt.TreeError):
        jopt.galore(jopt.adamw()).init({"w": jnp.ones((2, 2), "complex64")})


def test_matrices_that_wait_for_their_batch():
    params = {"a": jnp.ones((8, 6)), "b": jnp.ones((6, 8))}
    tx = jopt.galore(jopt.cautious(jopt.muon(0.1, weight_decay=0.0)), rank=2)
    bare = jopt.galore(jopt.muon(0.1, weight_decay=0.0), rank=2)
    grads = {"a": jnp.sin(jnp.arange(48.0) ** 2).reshape(8, 6)}
    grads["b"] = grads["a"].T
    updates, whole = (jax.jit(one.update)(grads, one.init(params), params)[0] for one in (tx, bare))
    assert np.linalg.matrix_rank(whole["a"], tol=1e-4) == 2
    # Muon's factor √(rows / columns) is that of the shapes it sees, 8×2 and 2×8.
    np.testing.assert_allclose(whole["a"], 2 * whole["b"].T, atol=2e-3)
    assert not np.any(updates["a"] * grads["a"] > 0)  # caution is outside of the subspace
