"""Those that are timed: steps, with the parameters and the state that they hand on."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

import jax

from tests.benchmarks.cases import LEARNING_RATE, Step
from tests.benchmarks.trees import Tree, values

Contender = Callable[[int], None]
"""Takes so many steps, and returns when the last one is finished."""


def in_turn(contenders: Mapping[str, Contender], rounds: int, steps: int = 1) -> dict[str, float]:
    """The median seconds a step of each, by rounds of `steps` steps in which they take turns.

    The order changes from round to round, and the first step of a turn does not count: the
    threads of the one before may still spin, and its arrays be what the caches hold.
    """
    for run in contenders.values():
        run(1)
        run(steps)
    seconds: dict[str, list[float]] = {by: [] for by in contenders}
    order, shuffle = list(contenders.items()), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for by, run in order:
            run(1)
            start = time.perf_counter()
            run(steps)
            seconds[by].append((time.perf_counter() - start) / steps)
    return {by: statistics.median(all_of) for by, all_of in seconds.items()}


def jitted(step: Step, tree: Tree) -> Contender:
    """A step by one call, as training loops have it; parameters and state are donated."""
    params, grads = values(tree), values(tree, seed=1)
    held = [params, step.init(params)]
    run = jax.jit(step.run, donate_argnums=(0, 1))

    def take(steps: int) -> None:
        for _ in range(steps):
            held[:] = run(*held, grads)
        jax.block_until_ready(held)

    return take


def fused(tree: Tree, clip: bool, device: str = "cpu") -> Contender:
    """AdamW by torch's fused kernels, after `clip_grad_norm_` if `clip`."""
    import torch

    shapes = [x.shape for x in jax.tree.leaves(tree)]
    params = [torch.nn.Parameter(torch.randn(s, device=device)) for s in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.AdamW(params, lr=LEARNING_RATE, fused=True)

    def take(steps: int) -> None:
        for _ in range(steps):
            if clip:
                torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return take


def handed_back(step: Step) -> Step:
    """A step of the same arguments and results that computes nothing."""
    return Step(step.init, lambda params, state, grads: (params, state))
