"""Laws of odd trees: no leaves, empty ones, `None`, a bare array."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jopt.testing.compare import finite, same_aspect, same_bits, same_structure
from jopt.testing.law import law
from jopt.testing.subject import Subject

NOTHING: tuple[Any, ...] = ({}, [], (), {"a": {}, "b": []}, {"a": None})


@law()
def empty(subject: Subject, dtype: str) -> None:
    """A tree without leaves is a tree."""
    for tree in NOTHING:
        state = subject.tx.init(tree)
        updates, new = subject.update(tree, state, tree)
        same_structure(f"the updates of {tree!r}", updates, tree)
        same_structure(f"the state of {tree!r}", new, state)


@law()
def containers(subject: Subject, dtype: str) -> None:
    """`None` and empty containers beside the parameters change nothing."""
    params, grads = subject.params(dtype), subject.grads(dtype, 0)
    beside: dict[str, Any] = {"nothing": None, "empty": {}, "list": []}
    around, fed = ({**beside, "params": tree} for tree in (params, grads))
    got, _ = subject.step(around, subject.tx.init(around), fed)
    want, _ = subject.step(params, subject.tx.init(params), grads)
    same_bits("the step of parameters beside nothing", got, {**beside, "params": want})


@law()
def hollow(subject: Subject, dtype: str) -> None:
    """Leaves without entries are leaves."""
    sizes = {"none": (0, 4), "flat": (0,), "deep": (2, 0, 3)}
    ranks = {len(shape) for shape in subject.shape_list()}
    leaves = {k: jnp.zeros(s, dtype) for k, s in sizes.items() if len(s) in ranks}
    for tree in (leaves, {"params": subject.params(dtype), **leaves}):
        state = subject.tx.init(tree)
        after, new = subject.step(tree, state, jax.tree.map(jnp.ones_like, tree))
        same_aspect("the parameters among which are some without entries", after, tree)
        same_aspect("the state of parameters without entries", new, state)
        finite("a parameter beside one without entries", after)
        finite("the state of parameters without entries", new)


@law()
def bare(subject: Subject, dtype: str) -> None:
    """An array is a tree of one leaf."""
    trees = subject.params(dtype), subject.grads(dtype, 0)
    leaf, g = (jax.tree.leaves(tree)[-1] for tree in trees)
    got, _ = subject.step(leaf, subject.tx.init(leaf), g)
    want, _ = subject.step({"w": leaf}, subject.tx.init({"w": leaf}), {"w": g})
    same_bits("the step of a bare array", got, want["w"])
