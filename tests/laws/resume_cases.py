"""The runs that `test_resume.py` interrupts: a transform each, and the parameters it moves.

The first part of a run has all that leaves traces in a state: a leaf without a gradient at the
first step, one without any, a frozen group, a NaN, a plateau's cooldown, half a round.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jopt
from jopt.core.spec import REGISTRY
from jopt.numerics import compute_dtype
from tests.catalog import CATALOG, Entry
from tests.compositions import ABSENT, PLATEAU, SCHEDULES, WRAPPERS
from tests.laws.harness import extras, given, is_sparse

HALF, WHOLE = 6, 11  # steps: those of the first process, and of a run that nothing interrupts
SPOILED = 5  # the step with a NaN in its gradients, where `Case.spoiled`: the last one saved

ALSO = ("bytes", "flax")  # other ways for a state to travel

Tree = Any


@dataclass(frozen=True)
class Case:
    """A run: `x64` says in which mode of jax; `also` names other ways for its state to travel.

    With `absent`, the leaf `late` has no gradient at the first step, and `never` none at all: the
    state counts them apart.
    """

    name: str
    tx: jopt.Transform
    tree: Callable[[], Tree]
    entry: Entry | None = None
    x64: bool = False
    spoiled: bool = False
    absent: bool = False
    also: tuple[str, ...] = ()

    def params(self) -> Tree:
        """The parameters before the first step."""
        names = ("late", "never") if self.absent else ()
        return {**self.tree(), **{name: leaf((2,), "float32", 3, 2) for name in names}}

    def grads(self, params: Tree, t: jax.Array) -> Tree:
        """Gradients that depend on the parameters and the step, entry by entry."""

        def one(p: jax.Array) -> jax.Array:
            wide = p.astype(compute_dtype(p.dtype))
            g = jnp.sin(2 * wide + t.astype(wide.dtype))
            if self.spoiled:
                g = jnp.where(t == SPOILED, jnp.asarray(jnp.nan, g.dtype), g)
            return g.astype(p.dtype)

        return jax.tree.map(one, params)

    def step(self, params: Tree, state: Tree, t: jax.Array, first: bool) -> tuple[Tree, Tree]:
        """One step of the run, to compile; `first` says which one."""
        dense = self.grads(params, t)
        extra = extras(self.tx, params, dense)
        if "value" in extra:
            extra["value"] = jnp.float32(1.0)  # never better than the first
        grads = dense if self.entry is None else given(self.entry, dense)
        if self.absent:
            grads = {**grads, **dict.fromkeys(("never", *(("late",) if first else ())))}
        updates, state = self.tx.update(grads, state, params, **extra)
        return jopt.apply_updates(params, updates), state


def mixed(ndims: tuple[int, ...] = (0, 1, 2, 3), *, waves: bool = False) -> Any:
    """Lists and tuples in dicts, of every dtype and rank that there is without x64."""
    tree = {
        "deep": leaf(ndims, "float32", 4, 2, 3),
        "empty": leaf(ndims, "float32", 0, 4),
        "frozen": leaf(ndims, "float32", 3, 2),
        "half": [leaf(ndims, "bfloat16", 8, 4), leaf(ndims, "float16", 8, 4), None],
        "layer": ({"kernel": leaf(ndims, "float32", 8, 8), "bias": leaf(ndims, "float32", 8)}, {}),
        "scalar": leaf(ndims, "float32"),
    }
    return {**tree, "wave": leaf(ndims, "complex64", 4, 2)} if waves else tree


def double(ndims: tuple[int, ...], *, waves: bool) -> Any:
    """What x64 adds, beside a leaf that it leaves as it is."""
    tree = {
        "frozen": leaf(ndims, "float64", 2, 2),
        "half": leaf(ndims, "float32", 3, 4),
        "scalar": leaf(ndims, "float64"),
        "w": leaf(ndims, "float64", 5, 3),
    }
    return {**tree, "wave": leaf(ndims, "complex128", 4, 2)} if waves else tree


def leaf(ndims: tuple[int, ...], dtype: str, *shape: int) -> Any:
    """Numbers of this dtype and shape; `None` if the optimizer takes no such rank."""
    if len(shape) not in ndims:
        return None
    rng = np.random.default_rng(len(shape))
    x = rng.normal(size=shape)
    if dtype.startswith("complex"):
        x = x + 1j * rng.normal(size=shape)
    return jnp.asarray(x, dtype)


def flat() -> Any:
    """A leaf for each schedule."""
    return {f"s{i}": jnp.linspace(0.1, 1.0, 4) for i in range(len(SCHEDULES) + 1)}


def grouped(entry: Entry, skips: str | None = None) -> jopt.Transform:
    """The entry's transform with a frozen group, and one with a schedule of its own."""
    seeds = {slot.init for slot in REGISTRY[entry.name].slots}  # these cannot be scheduled
    rate = 0.02 if "learning_rate" in seeds else jopt.schedules.linear(0.02, 0.01, 8)
    groups = {"cold": jopt.group("^frozen", freeze=True)}
    if entry.separable:
        groups["own"] = jopt.group("^half", learning_rate=rate)
    return entry.skipping(skips, groups=groups) if skips else entry.make(groups=groups)


def scheduled() -> jopt.Transform:
    """One optimizer in which every leaf follows a schedule of its own: one program for all."""
    each = enumerate((*SCHEDULES, PLATEAU))
    groups = {f"s{i}": jopt.group(f"^s{i}$", learning_rate=one) for i, one in each}
    groups["half"] = jopt.group("^s[01]$", learning_rate=jopt.times(0.5))
    return jopt.sgd(0.1, momentum=0.9, groups=groups)


def optimizer(entry: Entry, *, x64: bool = False) -> Case:
    """The entry's run."""

    def tree() -> Any:
        return (double if x64 else mixed)(entry.ndims, waves=entry.complex)

    name = f"{entry.name}-x64" if x64 else entry.name
    model = entry.factory is jopt.adamw and not x64
    also = (*ALSO, "pickle") if model else ()
    return Case(
        name,
        grouped(entry, ABSENT if model else None),
        tree,
        entry,
        x64=x64,
        absent=model,
        also=also,
    )


def lively() -> Any:
    """`mixed` without the leaf that Muon cannot take."""
    return {k: v for k, v in mixed().items() if k != "empty"}


def few() -> Any:
    """Few leaves, where compiling a step takes long."""
    return lively()["layer"][0]


def large() -> Any:
    """Leaves that `state_dtype` compresses, in whole blocks and not, beside a small one."""
    return {
        "bias": leaf((1,), "float32", 8),
        "half": leaf((2,), "bfloat16", 8, 512),
        "kernel": leaf((2,), "float32", 8, 700),
        # Small numbers: the sine of others, far from the real axis, soon overflows.
        "wave": leaf((2,), "complex64", 64, 70) / 10,
    }


# What a run goes through before it is saved, beside its steps.
MANNERS: dict[str, dict[str, Any]] = {
    "skip_nonfinite": {"spoiled": True, "absent": True},
    "skip_spikes": {"spoiled": True, "absent": True},
    "lookahead": {"absent": True},
    "nested": {"spoiled": True},
    "route": {"absent": True},
    "direction": {"absent": True},
    "subspaces": {"absent": True},
    "stages": {"absent": True},
    "int8": {"tree": large, "absent": True},
    "bfloat16": {"tree": large, "spoiled": True},
    "line_search": {"tree": few},
    "zoom": {"tree": few},
}
OPTIMIZERS = tuple(optimizer(entry) for entry in CATALOG)
WIDE = tuple(optimizer(entry, x64=True) for entry in CATALOG if not is_sparse(entry))
COMPOSITIONS = (
    Case("schedules", scheduled(), flat, also=ALSO),
    Case("curvature", jopt.chain(jopt.hessian_diagonal(seed=3), jopt.sgd(0.1)), few, also=ALSO),
    *(
        Case(name, tx, **{"tree": lively, "also": ALSO, **MANNERS.get(name, {})})
        for name, tx in WRAPPERS.items()
    ),
)
ALWAYS = {"adamw", "adamw-x64", "schedules", "accumulate", "skip_nonfinite", "nested", "swa"}
ALWAYS |= {"line_search"}
"""What the ordinary run has whatever is drawn: tests ask what became of these."""


def drawn(cases: tuple[Case, ...], most: int) -> tuple[Case, ...]:
    """At most so many for the ordinary run, every time the same: see `tests.sampling`."""
    rest = [case for case in cases if case.name not in ALWAYS]
    more = {case.name for case in random.Random("resume").sample(rest, min(most, len(rest)))}
    return tuple(case for case in cases if case.name in ALWAYS | more)


WHOLLY = {"optimizers": OPTIMIZERS, "compositions": COMPOSITIONS, "wide": WIDE}
OFTEN = {
    "optimizers": (*drawn(OPTIMIZERS, 3), *drawn(WIDE, 1)),
    "compositions": drawn(COMPOSITIONS, 3),
}
SLOW = {f"more {name}" for name in WHOLLY}
BATCHES = OFTEN | {
    f"more {name}": tuple(case for case in cases if case not in sum(OFTEN.values(), ()))
    for name, cases in WHOLLY.items()
}
