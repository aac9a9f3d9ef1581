"""torch itself as the oracle: the same parameters and gradients through torch and through jopt.

Trees are flat dicts of NumPy arrays in float64 (or complex128), keyed by path; both sides cast
them to the dtype of the run. Gradients have a first axis of steps.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental.sparse import BCOO

import jopt
import jopt.interop.torch
from jopt.core.numbers import is_schedule
from jopt.core.part import SpecPart
from jopt.core.spec import REGISTRY
from tests.oracles.problems import Arrays, problem


@dataclass(frozen=True)
class Side:
    """What is around the optimizer: groups, a scheduler, missing gradients, clipping.

    `groups` are (pattern, torch keys of the group); what no pattern matches is the first group.
    `scheduler` is torch's class name and arguments. `present[step][leaf]` says which gradients
    there are. `clip(parameters)` runs before each step of torch, group by group.
    """

    groups: tuple[tuple[str, dict[str, Any]], ...] = ()
    scheduler: tuple[str, dict[str, Any]] | None = None
    present: np.ndarray | None = None
    clip: Callable[[list[torch.Tensor]], Any] | None = None


PLAIN = Side()
TORCH_DTYPES = {
    np.dtype("float32"): torch.float32,
    np.dtype("float64"): torch.float64,
    np.dtype("complex64"): torch.complex64,
    np.dtype("complex128"): torch.complex128,
}


@contextlib.contextmanager
def scalars_in(dtype: Any) -> Iterator[None]:
    """Torch keeps its scalars of state (`eta`, `mu_product`) in its default dtype: float64 here
    if the run is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(TORCH_DTYPES[np.dtype(dtype)].to_real())
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass
class Outcome:
    """Parameters after the last step."""

    params: Arrays
    state: Any = field(repr=False, default=None)


def torch_run(
    name: str, kwargs: Mapping[str, Any], params: Arrays, grads: Arrays, dtype: Any, side: Side
) -> Outcome:
    """Run `torch.optim.<name>`."""
    kind = TORCH_DTYPES[np.dtype(dtype)]
    leaves = {k: torch.tensor(v, dtype=kind).requires_grad_() for k, v in params.items()}
    members: list[list[torch.Tensor]] = [[] for _ in range(len(side.groups) + 1)]
    for k, leaf in leaves.items():
        hits = [i for i, (pattern, _) in enumerate(side.groups, 1) if re.search(pattern, k)]
        members[hits[0] if hits else 0].append(leaf)
    owns = [{}, *(own for _, own in side.groups)]
    optimizer = getattr(torch.optim, name)(
        [{"params": m, **own} for m, own in zip(members, owns, strict=True) if m], **kwargs
    )
    scheduler = None
    if side.scheduler is not None:
        scheduler = getattr(torch.optim.lr_scheduler, side.scheduler[0])(
            optimizer, **side.scheduler[1]
        )
    stacked = {k: torch.tensor(v, dtype=kind) for k, v in grads.items()}
    for t in range(len(next(iter(grads.values())))):
        for i, (k, leaf) in enumerate(leaves.items()):
            here = side.present is None or side.present[t, i]
            g = stacked[k][t].clone()
            leaf.grad = (g.to_sparse(1) if by_rows(name) else g) if here else None
        if side.clip is not None:
            for m in members:
                side.clip(m)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return Outcome({k: v.detach().numpy() for k, v in leaves.items()}, optimizer)


def by_rows(name: str) -> bool:
    """Whether torch's class `name` takes sparse gradients, and its twin whole rows."""
    return any(spec.torch == name and spec.sparse == "rows" for spec in REGISTRY.values())


def rows(g: jax.Array) -> BCOO:
    """A dense gradient as rows; what is left over beside the rows that are not zero is padding."""
    return BCOO.fromdense(g, nse=g.shape[0], n_dense=g.ndim - 1)


@functools.lru_cache(maxsize=32)
def compiled(tx: jopt.Transform) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """One step from `(params, state)` and a gradient with extra arguments, and a scan of them."""
    sparse = any(label in REGISTRY and REGISTRY[label].sparse == "rows" for label in tx.parts)

    def step(carry: Any, given: Any) -> tuple[Any, None]:
        (p, state), (g, extra) = carry, given
        if sparse:
            g = jax.tree.map(rows, g)
        updates, state = tx.update(g, state, p, **extra)
        return (jopt.apply_updates(p, updates), state), None

    def steps(carry: Any, grads: Any) -> Any:
        return jax.lax.scan(step, carry, grads)[0]

    # Roundings are those of users' programs: products and sums in one, where that is faster.
    optimized = {"xla_backend_optimization_level": 3}
    return jax.jit(step, compiler_options=optimized), jax.jit(steps, compiler_options=optimized)


ALIKE: dict[Any, jopt.Transform] = {}


def of_equal_choices(tx: jopt.Transform, state: Any, params: Any) -> tuple[jopt.Transform, Any]:
    """A transform that differs from `tx` in its numbers only, and the state of `tx` for it.

    Programs take the numbers from the state: one serves all configurations whose static choices,
    groups and schedules are the same.
    """
    [(label, part), *others] = tx.parts.items()
    if others or not isinstance(part, SpecPart):
        return tx, state

    def fixed(numbers: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple((k, v if is_schedule(v) else None) for k, v in sorted(numbers.items()))

    groups = tuple(
        (name, group.match, group.freeze, fixed(group.numbers))
        for name, group in part.groups.items()
    )
    shown = (label, part.frozen_options, part.ending, part.skips, fixed(part.numbers), groups)
    alike = ALIKE.setdefault(shown, tx)
    known = alike.init(params)[label]["given"]  # the numbers of `tx` are edits to these
    return alike, {label: {**state[label], "given": known}}


def jopt_run(
    tx: jopt.Transform,
    params: Arrays,
    grads: Arrays,
    dtype: Any,
    side: Side = PLAIN,
    **extra: np.ndarray,
) -> Outcome:
    """Run a jopt transform; in one scan, or step by step where gradients are missing.

    `extra` arguments have, as the gradients, a first axis of steps.
    """
    start = unflatten_dict({k: jnp.asarray(v, dtype) for k, v in params.items()}, sep="/")

    def tree(present: Any = None, t: int | None = None) -> Any:
        flat = {
            k: jnp.asarray(v if t is None else v[t], dtype)
            if present is None or present[i]
            else None
            for i, (k, v) in enumerate(grads.items())
        }
        return unflatten_dict(flat, sep="/")

    state = tx.init(start)
    alike, state = of_equal_choices(tx, state, start)
    step, steps = compiled(alike)
    carry = (start, state)
    if side.present is None:
        carry = steps(carry, (tree(), {k: jnp.asarray(x, dtype) for k, x in extra.items()}))
    else:
        for t, present in enumerate(side.present):
            carry, _ = step(carry, (tree(present, t), {}))
    flat = flatten_dict(carry[0], sep="/")
    return Outcome({k: np.asarray(v) for k, v in flat.items()}, carry[1])


def twin(name: str, kwargs: Mapping[str, Any], side: Side = PLAIN) -> jopt.Transform:
    """The jopt transform for torch's class `name`, its arguments, groups and scheduler."""
    skips = None if side.present is None else True
    tx = jopt.interop.torch.optimizer(name, skips=skips, **kwargs)
    if not side.groups and side.scheduler is None:
        return tx
    arguments = tx.config
    if side.scheduler is not None:
        arguments["learning_rate"] = schedule(*side.scheduler, arguments["learning_rate"])
    groups = {}
    for i, (pattern, own) in enumerate(side.groups):
        # The twin of torch's group is read off the twin of an optimizer with its arguments.
        whole = jopt.interop.torch.optimizer(name, **{**kwargs, **own}).config
        numbers = {
            h.name: whole[h.name]
            for h in REGISTRY[tx.name].hypers
            if whole[h.name] != tx.config[h.name]
        }
        if side.scheduler is not None:
            numbers["learning_rate"] = schedule(*side.scheduler, whole["learning_rate"])
        groups[f"group_{i}"] = jopt.group(pattern, **numbers)
    if groups:
        arguments["groups"] = groups
    factory = getattr(jopt, tx.name)
    return factory(**arguments)


def schedule(kind: str, kwargs: Mapping[str, Any], base_lr: float) -> jopt.schedules.Schedule:
    """The jopt schedule that is torch's scheduler `kind` at this base learning rate."""
    return {
        "StepLR": lambda step_size, gamma=0.1: jopt.schedules.step(base_lr, step_size, gamma),
        "CosineAnnealingLR": lambda T_max, eta_min=0.0: jopt.schedules.cosine(
            base_lr, T_max, end_value=eta_min
        ),
        "LinearLR": lambda start_factor=1 / 3, end_factor=1.0, total_iters=5: jopt.schedules.linear(
            base_lr * start_factor, base_lr * end_factor, total_iters
        ),
    }[kind](**kwargs)


def distance(ours: Outcome, theirs: Outcome) -> float:
    """The largest difference, relative to each leaf's largest value."""
    assert ours.params.keys() == theirs.params.keys()
    gaps = []
    for k, b in theirs.params.items():
        a = ours.params[k]
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.isfinite(a).all()
        gaps.append(np.max(np.abs(a - b)) / np.max(np.abs(b)))
    return float(max(gaps))


def gap(
    name: str,
    kwargs: Mapping[str, Any],
    *,
    dtype: Any,
    steps: int = 100,
    ndims: Sequence[int] = (0, 1, 2, 3),
    side: Side = PLAIN,
    before: jopt.Transform | None = None,
) -> float:
    """The distance between jopt and torch after `steps` steps; `before` goes first in a chain."""
    params, grads = problem(ndims, steps, pairs=np.issubdtype(dtype, np.complexfloating))
    with scalars_in(dtype):
        theirs = torch_run(name, kwargs, params, grads, dtype, side)
    tx = twin(name, kwargs, side)
    tx = tx if before is None else jopt.chain(before, tx)
    return distance(jopt_run(tx, params, grads, dtype, side), theirs)
