"""Training one task in one way, with several seeds at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jopt
from tests.benchmarks.quality.report import BASE
from tests.benchmarks.quality.tasks import Task

CURVES = {"mean": np.mean, "least": np.min, "most": np.max}


@dataclass(frozen=True)
class Variant:
    """How parameters and state are stored between steps."""

    state_dtype: Any = None
    params: str = "float32"
    rounding: Any = "nearest"
    masters: bool = False


VARIANTS = {
    "float32": Variant(),
    "bfloat16 state": Variant("bfloat16"),
    "int8 state": Variant("int8"),
    "bf16 params, stochastic": Variant(params="bfloat16", rounding="stochastic"),
    "bf16 params, stochastic, int8 state": Variant("int8", "bfloat16", "stochastic"),
    "bf16 params, master_weights": Variant(params="bfloat16", masters=True),
    "bf16 params, nearest": Variant(params="bfloat16"),
}

OPTIMIZERS: dict[str, Callable[[Any, Any], jopt.Transform]] = {
    "adamw": lambda rate, dtype: jopt.adamw(rate, weight_decay=0.05, state_dtype=dtype),
    "sgd": lambda rate, dtype: jopt.sgd(rate, momentum=0.9, state_dtype=dtype),
    "rmsprop": lambda rate, dtype: jopt.rmsprop(rate, momentum=0.9, state_dtype=dtype),
    "muon_adamw": lambda rate, dtype: jopt.recipes.muon_adamw(
        rate, adamw_learning_rate=3e-3, state_dtype=dtype
    ),
    # float32's epsilon for all: from bfloat16 parameters the default, as torch's, takes theirs.
    "adafactor": lambda rate, dtype: jopt.adafactor(rate, eps1=2.0**-23, state_dtype=dtype),
}


def transform(task: Task, optimizer: str, variant: Variant) -> jopt.Transform:
    """A clip and the optimizer, warmed up for a tenth of the steps, then down along a cosine."""
    rate = jopt.schedules.warmup_cosine(task.rates[optimizer], task.steps // 10, task.steps)
    inner = OPTIMIZERS[optimizer](rate, variant.state_dtype)
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), inner)
    return jopt.master_weights(tx) if variant.masters else tx


def run(task: Task, optimizer: str, name: str, seeds: Sequence[int], points: int) -> dict[str, Any]:
    """The losses of each seed before, during and after; see the keys.

    A seed decides the first parameters and the batches, the same in all variants. The model
    computes in float32: of bfloat16 parameters, which are then the only difference. Their
    gradients are rounded to bfloat16, as they are where a model computes in it.
    """
    variant = VARIANTS[name]
    tx = transform(task, optimizer, variant)

    def first(seed: Any) -> Any:
        params = task.init(jax.random.fold_in(jax.random.key(seed), 0))
        return jax.tree.map(lambda p: p.astype(variant.params), params)

    def trained(seed: Any) -> tuple[Any, ...]:
        draws, noise = (jax.random.fold_in(jax.random.key(seed), i) for i in (1, 2))

        def step(carry: Any, t: Any) -> tuple[Any, Any]:
            params, state = carry
            batch = task.batch(jax.random.fold_in(draws, t))
            loss, grads = jax.value_and_grad(lambda p: task.loss(widened(p), batch))(params)
            key = jax.random.fold_in(noise, t) if variant.rounding == "stochastic" else None
            carry = jopt.step(tx, grads, state, params, rounding=variant.rounding, key=key)
            return carry, loss

        params = first(seed)
        (params, _), losses = jax.lax.scan(
            step, (params, tx.init(params)), jnp.arange(task.steps, dtype=jnp.uint32)
        )
        wide = widened(params)
        return losses, task.judged(wide, task.learnt), task.judged(wide, task.held_out)

    every = jax.jit(lambda each: jax.lax.map(trained, each, batch_size=task.at_once))
    losses, train, held_out = every(jnp.asarray(seeds, jnp.uint32))
    curves = np.asarray(losses).reshape(len(seeds), points, -1).mean(axis=-1)
    params = jax.eval_shape(first, jnp.uint32(0))
    numbers = sum(p.size for p in jax.tree.leaves(params))
    finite = np.isfinite(losses).all(axis=1)
    guessed = np.asarray(held_out) < math.log(task.classes)
    kept = CURVES if name == BASE else ("mean",)
    return {
        "task": task.name,
        "optimizer": optimizer,
        "variant": name,
        "steps": task.steps,
        "seeds": list(seeds),
        "parameters": numbers,
        "param_bytes": nbytes(params) / numbers,
        "state_bytes": nbytes(jax.eval_shape(tx.init, params)) / numbers,
        "train": rounded(train),
        "held_out": rounded(held_out),
        "diverged": int(np.sum(~(finite & guessed))),
        # All variants are seen against float32's band; only it has one.
        "curve": {k: rounded(of(curves, axis=0)) for k, of in CURVES.items() if k in kept},
    }


def widened(params: Any) -> Any:
    """In float32."""
    return jax.tree.map(lambda p: p.astype(jnp.float32), params)


def nbytes(tree: Any) -> int:
    """What the arrays of a tree hold."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def rounded(losses: Any) -> list[float]:
    """To as many digits as anyone reads."""
    return [float(f"{x:.6g}") for x in losses]
