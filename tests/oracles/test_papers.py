"""Every optimizer that torch lacks, in every configuration of the catalogue, against its paper's
lines in a plain loop, and against optax where that follows the paper."""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.catalog import CATALOG, Entry
from tests.oracles import papers
from tests.oracles.problems import problem
from tests.oracles.torch_live import Outcome, distance, jopt_run

STEPS = 50
# The loss, for those that take it: near 0 at times, and below.
LOSSES = 1 + 2 * np.cos(np.arange(STEPS)) / np.sqrt(1 + np.arange(STEPS))
OURS = [
    pytest.param(entry, run, id=f"{entry.name}-{i}")
    for entry in CATALOG
    for i, run in enumerate(entry.runs)
]
OPTAX = [pytest.param(*p.values, id=p.id) for p in OURS if p.values[0].optax]


def every_argument(entry: Entry, run: dict) -> dict:
    """The arguments of a run, and the defaults of those it leaves out."""
    own = inspect.signature(getattr(papers, entry.name)).parameters
    shown = inspect.signature(entry.factory).parameters
    return {k: run.get(k, shown[k].default) for k in own if k in shown}


def extra_of(entry: Entry) -> dict:
    """The extra arguments of all steps."""
    own = inspect.signature(getattr(papers, entry.name)).parameters
    return {"value": LOSSES} if "value" in own else {}


def as_the_paper(entry: Entry, run: dict, params: dict, grads: dict) -> Outcome:
    loop = functools.partial(getattr(papers, entry.name), **extra_of(entry))
    if entry.separable:
        found = {k: loop(p, grads[k], **every_argument(entry, run)) for k, p in params.items()}
    else:  # all parameters are one vector
        flat = np.concatenate([np.reshape(p, -1) for p in params.values()])
        rows = np.concatenate([g.reshape(STEPS, -1) for g in grads.values()], axis=1)
        ends = np.cumsum([np.size(p) for p in params.values()])[:-1]
        parts = np.split(loop(flat, rows, **every_argument(entry, run)), ends)
        found = {k: x.reshape(np.shape(p)) for (k, p), x in zip(params.items(), parts, strict=True)}
    return Outcome({k: np.asarray(x) for k, x in found.items()})


def as_optax(entry: Entry, run: dict, params: dict, grads: dict) -> Outcome:
    tx = entry.optax(**every_argument(entry, run))

    def step(carry, given):
        (p, state), (g, extra) = carry, given
        updates, state = tx.update(g, state, p, **extra)
        return (optax.apply_updates(p, updates), state), None

    start = jax.tree.map(jnp.asarray, params)
    # optax mixes dtypes and ranks.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        scanned = jax.jit(lambda *carry: jax.lax.scan(step, carry, (grads, extra_of(entry))))
        (after, _), _ = scanned(start, tx.init(start))
    return Outcome({k: np.asarray(x) for k, x in after.items()})


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("entry", "run"), OURS)
def test_the_papers_lines(entry, run):
    params, grads = problem(entry.ndims, STEPS)
    ours = jopt_run(entry.factory(**run), params, grads, np.float64, **extra_of(entry))
    assert distance(ours, as_the_paper(entry, run, params, grads)) <= 1e-10


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("entry", "run"), OPTAX)
def test_optax(entry, run):
    params, grads = problem(entry.ndims, STEPS)
    want = as_optax(entry, run, params, grads)
    assert distance(as_the_paper(entry, run, params, grads), want) <= 1e-10
    ours = jopt_run(entry.factory(**run), params, grads, np.float64, **extra_of(entry))
    assert distance(ours, want) <= 1e-10


def test_every_optimizer_has_an_oracle_here_or_a_file_of_its_own():
    own = {"adahessian", "lbfgs", "muon", "sophia"}
    assert {e.name for e in CATALOG if not (e.torch or e.runs)} == own
