"""One compiled program for a whole run, for any point and seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jopt
from tests.benchmarks.race.entrants import Entrant
from tests.benchmarks.race.task import Task

Run = tuple[float, float, int]
"""A rate, a decay and a seed."""


def shape(task: Task, flat: bool) -> Callable[[Any], Any]:
    """Up for a tenth of the steps, then down to 0 along a cosine, or on at the peak."""
    ahead = task.steps // 10
    if flat:
        return jopt.schedules.warmup_constant(1.0, ahead)
    return jopt.schedules.warmup_cosine(1.0, ahead, task.steps)


def trained(task: Task, entrant: Entrant) -> Callable[[Any, Any, Any], dict[str, Any]]:
    """A function of rate, decay and seed: what a whole run finds.

    A seed decides the first parameters and the batches, the same for every entrant.
    """
    along, every = shape(task, entrant.flat), task.steps // task.marks
    if every * task.marks != task.steps:
        raise ValueError(f"{task.name}: {task.steps} steps are no multiple of {task.marks}")

    def run(rate: Any, decay: Any, seed: Any) -> dict[str, Any]:
        tx = entrant.make(lambda t: rate * along(t), lambda t: decay, task)
        first, draws = (jax.random.fold_in(jax.random.key(seed), i) for i in (0, 1))

        def step(carry: Any, t: Any) -> tuple[Any, Any]:
            params, state = carry
            batch = task.batch(jax.random.fold_in(draws, t))
            loss, grads = jax.value_and_grad(task.loss)(params, batch)
            updates, state = tx.update(grads, state, params)
            return (jopt.apply_updates(params, updates), state), loss

        def part(carry: Any, ts: Any) -> tuple[Any, Any]:
            carry, losses = jax.lax.scan(step, carry, ts)
            return carry, (losses.mean(), task.judged(averaged(*carry), task.held_out))

        def averaged(params: Any, state: Any) -> Any:
            return jopt.eval_params(state, params) if entrant.flat else params

        params = task.init(first)
        steps = jnp.arange(task.steps, dtype=jnp.uint32).reshape(task.marks, every)
        last, (losses, held_out) = jax.lax.scan(part, (params, tx.init(params)), steps)
        validation = task.judged(averaged(*last), task.validation)
        return {"train": losses, "held_out": held_out, "validation": validation}

    return run


def each_apart(one: Callable[..., Any]) -> Callable[..., Any]:
    """Over a first axis of the arguments, one after the other."""
    return lambda *arrays: jax.lax.map(lambda each: one(*each), arrays)


class Program:
    """The runs of an entrant on a task: compiled once, so many at a time."""

    def __init__(self, task: Task, entrant: Entrant) -> None:
        self.task, one = task, trained(task, entrant)
        run = one
        if task.at_once > 1:
            run = each_apart(one) if entrant.apart else jax.vmap(one)
        like = (task.at_once,) if task.at_once > 1 else ()
        numbers = (jax.ShapeDtypeStruct(like, d) for d in (jnp.float32, jnp.float32, jnp.uint32))
        begun = time.process_time()
        self.compiled = jax.jit(run).lower(*numbers).compile()
        self.compile_seconds = time.process_time() - begun
        memory = self.compiled.memory_analysis()
        self.temporary = getattr(memory, "temp_size_in_bytes", None)

    def __call__(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """What each of at most `at_once` runs finds, and the processor's seconds of a step."""
        filled = [*runs, *[runs[-1]] * (self.task.at_once - len(runs))]
        rates, decays, seeds = (np.asarray(x) for x in zip(*filled, strict=True))
        given = rates.astype(np.float32), decays.astype(np.float32), seeds.astype(np.uint32)
        begun = time.process_time()
        found = self.compiled(*(given if self.task.at_once > 1 else (x[0] for x in given)))
        found = jax.device_get(found)
        seconds = (time.process_time() - begun) / self.task.steps / len(filled)
        if self.task.at_once == 1:
            found = jax.tree.map(lambda x: np.asarray(x)[None], found)
        return [
            {k: numbers(v[i]) for k, v in found.items()} | {"seconds": digits(seconds)}
            for i in range(len(runs))
        ]


def state_bytes(task: Task, entrant: Entrant) -> float:
    """What the state holds, in bytes a parameter."""
    tx = entrant.make(lambda t: 1e-3, lambda t: 0.0, task)
    state = jax.eval_shape(tx.init, task.shapes())
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    return digits(held / task.parameters())


def digits(x: Any) -> Any:
    """To as many digits as anyone reads; what is not finite has no number in JSON."""
    return float(f"{float(x):.6g}") if np.isfinite(x) else None


def numbers(x: Any) -> Any:
    """A number or a list of them."""
    return digits(x) if np.ndim(x) == 0 else [digits(y) for y in x]
