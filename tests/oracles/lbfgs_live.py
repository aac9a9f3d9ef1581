"""torch's LBFGS and jopt's on one jax function, step by step, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jopt
import jopt.interop.torch

Leaves = dict[str, np.ndarray]


class Trace(NamedTuple):
    """All parameters as one vector, and torch's counters, after each step."""

    x: np.ndarray
    func_evals: list[int]
    n_iter: list[int]


def flat(leaves: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaves[k])) for k in sorted(leaves)])


def torch_trace(
    fun: Callable[[Any], Any], start: Leaves, kwargs: Mapping[str, Any], steps: int
) -> Trace:
    """`steps` calls of torch's `step`. The closure asks jax for the value and the gradient."""
    params = {k: torch.tensor(v).requires_grad_() for k, v in start.items()}
    optimizer = torch.optim.LBFGS([params[k] for k in sorted(params)], **kwargs)
    look = jax.jit(jax.value_and_grad(fun))

    def closure() -> torch.Tensor:
        value, grads = look({k: v.detach().numpy() for k, v in params.items()})
        for k, v in params.items():  # torch's gradient of a complex number is jax's conjugate
            v.grad = torch.tensor(np.conj(np.asarray(grads[k])))
        return torch.tensor(float(value), dtype=torch.float64)

    trace = Trace(*([], [], []))
    for _ in range(steps):
        optimizer.step(closure)
        state = optimizer.state[params[min(params)]]
        trace.x.append(flat({k: v.detach().numpy() for k, v in params.items()}))
        trace.func_evals.append(state["func_evals"])
        trace.n_iter.append(state["n_iter"])
    return trace._replace(x=np.array(trace.x))


def jopt_trace(
    fun: Callable[[Any], Any], start: Leaves, kwargs: Mapping[str, Any], steps: int
) -> Trace:
    """The same with the transform that `jopt.interop.torch` makes of torch's arguments."""
    tx = jopt.interop.torch.optimizer("LBFGS", **kwargs)
    needs = {"value_fn": fun} if "value_fn" in tx.parts["lbfgs"].extra else {}

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(fun)(params)
        grads = jax.tree.map(jnp.conj, grads)
        updates, state = tx.update(grads, state, params, value=value, **needs)
        params, node = jopt.apply_updates(params, updates), state["lbfgs"]
        counters = node["func_evals"]["default"], node["n_iter"]["default"]
        return (params, state), (params, *counters)

    params = jax.tree.map(jnp.asarray, start)
    _, (xs, evals, iters) = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=steps))(
        (params, tx.init(params))
    )
    x = np.stack([flat(jax.tree.map(lambda v, i=i: v[i], xs)) for i in range(steps)])
    return Trace(x, evals.tolist(), iters.tolist())


def gaps(a: Trace, b: Trace) -> np.ndarray:
    """After each step the largest difference, relative to the largest entry."""
    return np.max(np.abs(a.x - b.x), axis=1) / np.max(np.abs(b.x), axis=1)
