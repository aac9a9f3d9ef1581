"""L-BFGS of functions whose gradients' products are out of the range of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(6, 6))
HESSIAN, BEST, START = ROOT @ ROOT.T / 6 + 0.5 * np.eye(6), RNG.normal(size=6), RNG.normal(size=6)
EXACT = {"tolerance_grad": 0.0, "tolerance_change": 0.0}


def value(x, size, hessian=HESSIAN, best=BEST):
    r = x - best
    return size * (0.5 * r @ (hessian @ r))


def stepper(**arguments):
    """One compiled program for functions of every size, as it is data."""

    @jax.jit
    def step(x, state, size, rate):
        hessian, best = (jnp.asarray(c, jnp.float32) for c in (HESSIAN, BEST))
        tx = jopt.lbfgs(rate, min_curvature=0.0, **EXACT, **arguments)
        fun = lambda x: value(x, size, hessian, best)  # noqa: E731
        f, g = jax.value_and_grad(fun)(x)
        more = {} if arguments.get("max_iter") == 1 else {"value": f, "value_fn": fun}
        updates, state = tx.update(g, state, x, **more)
        return x + updates, state

    def run(size, rates):
        x = jnp.asarray(START, jnp.float32)
        state, path = jopt.lbfgs(1.0, min_curvature=0.0, **EXACT, **arguments).init(x), []
        for rate in rates:
            x, state = step(x, state, jnp.float32(size), jnp.float32(rate))
            path.append(np.asarray(x))
        return np.stack(path)

    return run


def in_torch(size, rates, **arguments):
    """The same in float64, where everything is in range."""
    x = torch.tensor(START).requires_grad_()
    constants = torch.tensor(HESSIAN), torch.tensor(BEST)
    optimizer, path = torch.optim.LBFGS([x], **EXACT, **arguments), []

    def closure():
        optimizer.zero_grad()
        loss = value(x, size, *constants)
        loss.backward()
        return loss

    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step(closure)
        path.append(x.detach().numpy().copy())
    return np.stack(path)


@pytest.mark.parametrize("search", ["strong_wolfe", None])
def test_steep_functions_are_minimised_as_in_float64(search):
    run = stepper(line_search=search, max_iter=20)
    for size in (1.0, 1e17, 1e19, 1e25, 1e30, 1e36):
        want = in_torch(size, [1.0] * 2, line_search_fn=search)
        np.testing.assert_allclose(run(size, [1.0] * 2)[-1], want[-1], atol=2e-6)


def test_step_for_step_whatever_the_size():
    run, rates = stepper(max_iter=1, history_size=4), np.ones(8)
    for size in (1.0, 1e17, 1e19, 1e30):
        want = in_torch(size, rates, max_iter=1, history_size=4)
        np.testing.assert_allclose(run(size, rates), want, atol=1e-4)
    # A flat function needs a rate to match at its first step; it is then as one of size 1.
    total = np.sum(np.abs(HESSIAN @ (START - BEST)))
    rates[0] = 0.5 * max(1, total)
    want = in_torch(1.0, rates, max_iter=1, history_size=4)
    for size in (1e-15, 1e-20, 1e-28):
        rates[0] = 0.5 / size
        np.testing.assert_allclose(run(size, rates), want, atol=1e-4)
