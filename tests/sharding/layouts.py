"""Trees in which every leaf is split another way, and all that a law over layouts runs.

One program sees all the ways at once: by an axis, by each of the others, by two, by several
together, and not at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.catalog import CATALOG
from tests.compositions import WRAPPERS
from tests.laws.harness import extras, is_sparse

MESHES = ((4,), (2, 2), (2, 2, 2))
NAMES = ("f", "t", "e")


def mesh_of(shape, kind):
    return jax.make_mesh(shape, NAMES[: len(shape)], axis_types=(kind,) * len(shape))


def layouts(mesh):
    """For every leaf its shape, and how it is split on this mesh."""
    first, last, every = mesh.axis_names[0], mesh.axis_names[-1], mesh.axis_names
    both = (first, last) if len(every) > 1 else (first, None)
    return {
        "scale": ((), P()),
        "layer": {
            "bias": ((16,), P(last)),
            "kernel": ((8, 16), P(None, first)),
            "also": ((8, 16), P(None, first)),
            "square": ((16, 16), P(*both)),
            "gate": ((16, 8), P(*reversed(both))),
            "out": ((8, 16), P(None, every)),
            "all": ((16, 8), P(every)),
            "norm": ((8,), P()),
            "mix": ((8, 16), P()),
        },
        "frozen": {"conv": ((8, 2, 4), P(last))},
        "large": ((8, 16, 64), P(None, first)),  # large enough for a state in 8 bits
    }


AXES = {
    "^layers/": "layer ...",
    "^inner/": "i layer o -> layer i o",
    "^heads/": "d (heads k)",
    "^out/": "(heads k) d",
    "^qkv/": "d (3 e) -> 3 d e",
}


def stacks(mesh):
    """The same of leaves that hold tensors as `AXES` says, split by what numbers them or within."""
    first, last, every = mesh.axis_names[0], mesh.axis_names[-1], mesh.axis_names
    both = (first, last) if len(every) > 1 else (first, None)
    return {
        "layers": {
            "bias": ((8, 16), P(*both)),
            "scale": ((8, 16), P(None, last)),
            "by_layer": ((8, 8, 16), P(first)),
            "by_row": ((8, 8, 16), P(None, first)),
            "by_both": ((8, 8, 16), P(both[0], None, both[1])),
            "by_all": ((8, 8, 16), P(every)),
            "whole": ((8, 8, 16), P()),
            "large": ((8, 2, 1024), P(both[0], None, both[1])),  # for a state in fewer bits
        },
        "inner": {"by_layer": ((8, 4, 16), P(None, first)), "by_both": ((8, 4, 16), P(*both))},
        "heads": {
            "by_row": ((8, 8, 4), P(first)),
            "by_head": ((8, 8, 4), P(None, first)),
            "by_entry": ((8, 8, 4), P(None, None, last)),
            "by_both": ((8, 8, 4), P(None, *both)),
            "large": ((4, 4, 512), P(None, first)),
        },
        "out": {"by_entry": ((8, 4, 8), P(None, last)), "by_both": ((8, 4, 8), P(*both))},
        "qkv": {"by_row": ((8, 24), P(first)), "by_column": ((8, 24), P(None, first))},
    }


@dataclass(frozen=True)
class Case:
    """A transform, the ranks of parameter it takes, and how its step is taken."""

    tx: jopt.Transform
    ndims: tuple[int, ...] = (0, 1, 2, 3)
    dtype: str = "float64"
    layouts: Callable[[Any], Any] = layouts
    sparse: bool = False
    step: Callable[..., Any] | None = None

    def leaves(self, mesh):
        def kept(tree):
            if not isinstance(tree, dict):
                return tree if len(tree[0]) in self.ndims else None
            found = {k: kept(v) for k, v in tree.items()}
            return {k: v for k, v in found.items() if v is not None} or None

        return kept(self.layouts(mesh))

    def values(self, mesh, seed):
        rng = np.random.default_rng(seed)
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf[0]), self.dtype),
            self.leaves(mesh),
            is_leaf=lambda x: isinstance(x, tuple),
        )

    def where(self, mesh):
        return jax.tree.map(
            lambda leaf: NamedSharding(mesh, leaf[1]),
            self.leaves(mesh),
            is_leaf=lambda x: isinstance(x, tuple),
        )

    def placed(self, mesh, seed):
        return jax.device_put(self.values(mesh, seed), self.where(mesh))

    def taken(self, params, state, grads):
        """The next parameters and state."""
        extra = extras(self.tx, params, grads)
        if self.sparse:
            grads = jax.tree.map(_rows, grads)
        if self.step is not None:
            return self.step(self.tx, grads, state, params, **extra)
        updates, state = self.tx.update(grads, state, params, **extra)
        return jopt.apply_updates(params, updates), state


def _rows(g):
    # Every other row twice, and the others not at all.
    return jopt.row_gradient(jnp.arange(g.shape[0], dtype=jnp.int32) // 2 * 2, g, g)


def _by_chance(tx, grads, state, params, **extra):
    return jopt.step(
        tx, grads, state, params, rounding="stochastic", key=jax.random.key(7), **extra
    )


CASES: dict[str, Case] = {
    **{e.name: Case(e.make(), e.ndims, sparse=is_sparse(e)) for e in CATALOG},
    **{f"{name}()": Case(tx) for name, tx in WRAPPERS.items()},
    "muon_adamw()": Case(WRAPPERS["muon_adamw"], (0, 1, 2)),
    "clips": Case(
        jopt.chain(
            jopt.clip_by_value(2.0),
            jopt.clip_by_norm(1.0),
            jopt.clip_by_global_norm(0.5),
            jopt.sgd(0.1, momentum=0.9),
        )
    ),
    "8 bits": Case(jopt.adam(0.01, state_dtype="int8"), dtype="float32"),
    "16 bits": Case(jopt.adamw(0.01, state_dtype="bfloat16"), dtype="float32"),
    "masters": Case(jopt.master_weights(jopt.adamw(0.01)), dtype="bfloat16", step=jopt.step),
    "by chance": Case(jopt.adamw(0.01), dtype="bfloat16", step=_by_chance),
    "rounds": Case(jopt.accumulate(jopt.adamw(0.01), every=2), step=jopt.step),
    "rows of masters": Case(
        jopt.master_weights(jopt.sparse_adam(0.01)), (1, 2, 3), dtype="bfloat16", sparse=True
    ),
    "matrices in all": Case(
        jopt.skip_nonfinite(jopt.ema(jopt.accumulate(jopt.muon(0.02), every=2), decay=0.5)), (2,)
    ),
}


def _clips(**on):
    each = (jopt.clip_by_norm(1.0, **on), jopt.clip_by_block_rms(0.5, **on))
    return jopt.chain(
        *each, jopt.clip_by_unit_norm(0.5, **on), jopt.centralize(**on), jopt.sgd(0.1)
    )


STACKS: dict[str, Case] = {
    f"stacks, {name}": Case(make(axes=AXES), layouts=stacks)
    for name, make in {
        "adafactor": jopt.adafactor,
        "fromage": jopt.fromage,
        "lamb": jopt.lamb,
        "lars": functools.partial(jopt.lars, weight_decay=0.1),
        "novograd": jopt.novograd,
        "sm3": jopt.sm3,
        "clips": _clips,
        "adaptive clip": functools.partial(jopt.adaptive_grad_clip, 0.1),
        "mars": lambda **on: jopt.mars(jopt.sgd(0.1), **on),
        "stages": lambda **on: jopt.hyperball(jopt.stable(jopt.adam(0.1, **on))),
        "trust ratio": lambda **on: jopt.trust_ratio(jopt.adamw(0.1, **on)),
        "rounds": lambda **on: jopt.accumulate(jopt.lamb(0.1, **on), every=2),
        "8 bits": functools.partial(jopt.lamb, state_dtype="int8"),
        "16 bits": functools.partial(jopt.novograd, state_dtype="bfloat16"),
        "16 bits, factored": functools.partial(
            jopt.adafactor, momentum=0.9, state_dtype={"mu": "bfloat16"}
        ),
    }.items()
} | {
    # In float64, too: a matrix that stays where it lies is summed in another order.
    "stacks, muon": Case(
        jopt.muon(axes={k: v for k, v in AXES.items() if k != "^qkv/"}, ns_dtype="float64"),
        (3,),
        layouts=stacks,
    )
}
