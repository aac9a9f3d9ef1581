"""The reference implementations on PyPI, run live beside ours: `pip install -e '.[references]'`.

What papers' authors and others wrote in torch, with the same parameters and gradients in float64.
Where one of them departs from its paper the row says at which line, and ours is held to the paper.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from tests.oracles.problems import problem
from tests.oracles.references import PAIRS, Pair
from tests.oracles.references_heavyball import OF_HEAVYBALL

STEPS = 50


def class_of(pair: Pair) -> Any:
    """The class, where its package is installed."""
    package, name = pair.where.split(":")
    module = pytest.importorskip(package)
    if package == "heavyball":
        module.utils.compile_mode = module.utils.compile_mode_recommended_to_none = None
    return getattr(module, name)


def theirs(pair: Pair, params: Any, grads: Any) -> Any:
    """Where the class leads, leaf by leaf."""
    own = {k: torch.nn.Parameter(torch.tensor(x)) for k, x in params.items()}
    optimizer = class_of(pair)([*own.values()], **pair.theirs)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for t in range(STEPS):
        for k, p in own.items():
            p.grad = torch.tensor(grads[k][t])
        with_value: dict[str, Any] = {"loss": torch.tensor(loss_at(t))} if pair.value else {}
        if pair.every and t % pair.every == 0:
            with_value["hessian"] = [torch.tensor(diagonal_at(grads[k][t])) for k in own]
        optimizer.step(**with_value)
    return {k: p.detach().numpy() for k, p in own.items()}


def loss_at(t: int) -> float:
    return 2 + math.cos(t)


def diagonal_at(grad: Any) -> Any:
    """A diagonal of a Hessian of no function in particular, below 0 at times."""
    return 0.3 + 2 * grad - grad**3


def ours(pair: Pair, params: Any, grads: Any) -> Any:
    tx = pair.ours()

    def one(carry: Any, given: Any) -> Any:
        g, value = given
        more = {"value": value} if pair.value else {}
        if pair.every:
            more["hessian"] = {k: diagonal_at(x) for k, x in g.items()}
        return jopt.step(tx, g, carry[1], carry[0], **more), None

    losses = jnp.asarray([loss_at(t) for t in range(STEPS)])
    start = {k: jnp.asarray(x) for k, x in params.items()}
    run = jax.jit(lambda p, g: jax.lax.scan(one, (p, tx.init(p)), (g, losses))[0][0])
    return run(start, grads)


@pytest.fixture(autouse=True)
def doubles(monkeypatch):
    """Some keep numbers in torch's default dtype, whatever the parameters; Muon in bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [*PAIRS, *OF_HEAVYBALL], ids=lambda p: p.name)
def test_ours_takes_their_steps(pair, x64):
    params, grads = problem(pair.ndims, STEPS)
    want = theirs(pair, params, grads)
    found = ours(pair, params, grads)
    gap = max(
        float(np.max(np.abs(found[k] - want[k])) / np.max(np.abs(want[k] - params[k])))
        for k in params
    )
    assert gap >= 1e-3 if pair.apart else gap <= pair.within
