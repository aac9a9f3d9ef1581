"""Records where two packages for JAX lead that do not run beside the present one.

distributed-kron 2.0.0 cannot be imported, and optax-shampoo 0.0.6 asks for functions that are gone
(with them put back it runs live, too: `test_optax_shampoo.py`).
With jax 0.4.33, jaxlib 0.4.33, optax 0.2.3, flax 0.9.0 and both packages, in an environment of its
own and from the root of the repository:

    JAX_ENABLE_X64=1 JAX_THREEFRY_PARTITIONABLE=1 python -m tests.oracles.recorded.make

writes `steps.json`, by row and leaf the change of the parameters that `problem` gives.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.oracles import optax_shampoo
from tests.oracles.papers.draws import as_drawn, fits
from tests.oracles.problems import problem
from tests.oracles.recorded.kept import STEPS, keep

PLAIN_KRON = {
    "merge_small_dims": False,
    "partition_grads_into_blocks": False,
    "precond_dtype": "float64",
    "precond_update_precision": "float32",
    "learning_rate": 0.01,
}
KRON = {
    "kron": {"preconditioner_update_probability": 1.0},
    "kron third": {
        "preconditioner_update_probability": 1 / 3,
        "b1": 0.5,
        "preconditioner_init_scale": 0.1,
        "preconditioner_lr": 0.2,
        "memory_save_mode": "one_diag",
    },
    "kron diagonal": {
        "preconditioner_update_probability": 1.0,
        "memory_save_mode": "all_diag",
        "max_size_triangular": 3,
        "b1": 0.0,
    },
}
"""The rows of distributed-kron, of the seed 2: two steps balance."""
PLAIN_SHAMPOO = {
    "learning_rate": 0.01,
    "block_size": 128,
    "beta1": 0.0,
    "beta2": 1.0,
    "start_preconditioning_step": 0,
    "best_effort_shape_interpretation": False,
    "relative_matrix_epsilon": False,
    "matrix_epsilon": 1e-3,
    "generate_training_metrics": False,
}
SHAMPOO = {
    "shampoo": {},
    "shampoo tiles": {
        "block_size": 2,
        "graft_type": "ADAGRAD",
        "start_preconditioning_step": 4,
        "skip_preconditioning_rank_lt": 2,
    },
    "shampoo means": {"beta2": 0.9, "graft_type": "RMSPROP", "diagonal_epsilon": 1e-8},
    "shampoo momentum": {"beta1": 0.9, "nesterov": True, "exponent_override": 4},
    "shampoo ridge": {"relative_matrix_epsilon": True},
    "shampoo decay": {"weight_decay": 0.1, "decoupled_weight_decay": True},
}


def of_kron(said: dict[str, Any]) -> Any:
    """The package, which draws from our stream: V and whether to balance, by step."""
    package: Any = importlib.import_module("distributed_kron.kron")
    _, balancing, normal = map(jnp.asarray, fits(2))
    at = SimpleNamespace(step=None)

    def like(key: Any, tree: Any) -> Any:
        return jax.tree.map(lambda x: as_drawn(normal[at.step], x.shape), tree)

    tx = package.kron(**{**PLAIN_KRON, **said})
    package._tree_random_like, package.print = like, lambda *_: None

    @jax.jit
    def update(grads: Any, state: Any, params: Any, step: Any) -> Any:
        at.step, drawn = step, jax.random.uniform
        jax.random.uniform = lambda _: balancing[step]
        try:
            return tx.update(grads, state, params)
        finally:
            jax.random.uniform = drawn

    return tx.init, update


def of_shampoo(said: dict[str, Any]) -> Any:
    package = optax_shampoo.package()
    numbers = {**PLAIN_SHAMPOO, **said}
    numbers["graft_type"] = package.GraftingType[numbers.get("graft_type", "SGD")]
    tx = package.distributed_shampoo(**numbers)

    def init(params: Any) -> Any:
        """Without the float32 of its factors and roots."""
        wider = lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x  # noqa: E731
        return jax.tree.map(wider, tx.init(params))

    return init, jax.jit(lambda grads, state, params, _: tx.update(grads, state, params))


def led(optimizer: Any) -> Any:
    """How far the parameters have gone."""
    init, update = optimizer
    start, grads = problem((0, 1, 2, 3), STEPS)
    params = {k: jnp.asarray(x) for k, x in start.items()}
    state = init(params)
    for t in range(STEPS):
        now = {k: jnp.asarray(g[t]) for k, g in grads.items()}
        updates, state = update(now, state, params, t + 1)
        params = {k: p + updates[k] for k, p in params.items()}
    return {k: np.asarray(p - start[k]).tolist() for k, p in params.items()}


if __name__ == "__main__":
    found = {name: led(of_kron(said)) for name, said in KRON.items()}
    found |= {name: led(of_shampoo(said)) for name, said in SHAMPOO.items()}
    keep("steps.json", found)
