"""Optimizers that work in a subspace of each matrix, so that their state is that much smaller."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, configured, is_one_of
from jopt.core import Hyper, Slot, Spec, Transform, Value
from jopt.core.checks import check_count
from jopt.core.doors import LeafPart
from jopt.core.ending import value_of
from jopt.core.flow import Part
from jopt.core.matrixwise import MatrixPart
from jopt.core.part import SpecPart
from jopt.core.spec import Options, Shape
from jopt.core.staged import check_unused, last_optimizers
from jopt.core.transform import check_transform
from jopt.numerics import in_rows, once_if
from jopt.numerics.decompositions import svd
from jopt.numerics.explicit import laid, like, whole

Side = Literal["shorter", "longer"]
"""Which side of a matrix the projection shortens."""
SCALE = Hyper("scale", "[0, inf)")
CHOICES = ("rank", "update_proj_gap", "side")


def is_matrix(shape: Shape) -> bool:
    """Whether there is something to project."""
    return len(shape) == 2 and min(shape) > 0


def from_left(shape: Shape, side: Side) -> bool:
    """Whether it is the rows, not the columns, of which there are fewer in the subspace."""
    return shape[0] <= shape[1] if side == "shorter" else shape[0] >= shape[1]


def low_shape(shape: Shape, options: Options) -> Shape:
    """The shape of a gradient in the subspace."""
    if not is_matrix(shape):
        return shape
    rank = min(options["rank"], *shape)
    return (rank, shape[1]) if from_left(shape, options["side"]) else (shape[0], rank)


def basis_shape(shape: Shape, options: Options) -> Shape:
    """The shape of the projector."""
    split = shape[0] if from_left(shape, options["side"]) else shape[1]
    return split, min(options["rank"], *shape)


PROJECTOR = Slot("projector", shape=basis_shape, fits=is_matrix, compress=False)


@dataclass(frozen=True)
class Lowered:
    """What a slot says of a parameter's shape, said of the shape in the subspace."""

    slot: Slot

    def shape(self, shape: Shape, options: Options) -> Shape:
        """See `Slot.shape`."""
        return self.slot.shape_for(low_shape(shape, options), options)

    def fits(self, shape: Shape, options: Options) -> bool:
        """See `Slot.fits`."""
        return self.slot.held_by(low_shape(shape, options), options)


@dataclass(frozen=True)
class Prepared:
    """What a rule has prepared, and whether the basis is found anew at this step."""

    prepare: Callable[[Any], dict[str, Any]] | None

    def __call__(self, h: Any) -> dict[str, Any]:
        """See `jopt.leafwise`."""
        due = jnp.mod(h.t - 1, h.update_proj_gap) == 0
        own = {} if self.prepare is None else self.prepare(h)
        return {**own, "due": due}


@dataclass(frozen=True)
class Projected:
    """A rule in the subspace: what it sees of a matrix is projected, what it gives put back."""

    rule: Callable[..., Any]

    def __call__(self, g: Array, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
        """See `jopt.core.doors`."""
        if not hasattr(s, "projector"):
            given: tuple[Any, dict[str, Any]] = self.rule(g, s, p, h)
            return given
        space = Subspace.of(g, s.projector, h)
        d, new = self.rule(*space.seen(g, s, p), h)
        return space.back(d, g, h), {**new, "projector": space.kept}


@dataclass(frozen=True)
class ProjectedRun:
    """The same of a rule for matrices that waits for its linear algebra."""

    rule: Callable[..., Any]

    def __call__(self, g: Array, s: Any, p: Any, h: Any) -> Generator[Array, Array, Any]:
        """See `jopt.core.matrixwise`."""
        if not hasattr(s, "projector"):
            return (yield from self.rule(g, s, p, h))
        space = Subspace.of(g, s.projector, h)
        d, new = yield from self.rule(*space.seen(g, s, p), h)
        return space.back(d, g, h), {**new, "projector": space.kept}


@dataclass(frozen=True)
class Subspace:
    """Where the rule works at one step: the basis, as stored and whole, and which side it is of."""

    kept: Array
    basis: Array
    left: bool

    @classmethod
    def of(cls, g: Array, last: Array, h: Any) -> Subspace:
        """That of the gradient where it is due, else the last one."""
        left = from_left(g.shape, h.side)

        def new(last: Array) -> Array:
            # A basis is no function to differentiate: where singular values meet it jumps.
            u, _, v = svd(in_rows(jax.lax.stop_gradient(whole(g, 0, 1))))
            vectors = (u if left else v.T)[:, : last.shape[1]]
            found: Array = in_rows(like(_upright(vectors).astype(last.dtype), laid(last, 0, 1)))
            return found

        kept = once_if(h.due, new, last)
        return cls(kept, whole(kept, 0, 1), left)

    def seen(self, g: Array, s: Any, p: Any) -> tuple[Array, Any, Any]:
        """What the rule sees."""
        own = {k: x for k, x in vars(s).items() if k != "projector"}
        return self._low(g), SimpleNamespace(**own), None if p is None else self._low(p)

    def back(self, d: Any, g: Array, h: Any) -> Array:
        """What it gives, as a matrix like the gradient."""
        low = h.scale * value_of(d)
        full = self.basis @ low if self.left else low @ self.basis.T
        return like(full, laid(g, 0, 1))

    def _low(self, x: Array) -> Array:
        return self.basis.T @ whole(x, 0) if self.left else whole(x, 1) @ self.basis


def _upright(vectors: Array) -> Array:
    """The same, the largest entry of each above 0: which sign a library takes is its own affair."""
    most, least = (f(vectors, axis=0, keepdims=True) for f in (jnp.max, jnp.min))
    return jnp.where(most >= -least, vectors, -vectors)


@configured("jopt.")
def galore(
    tx: Transform,
    *,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: Value = 1.0,
    side: Side = "shorter",
) -> Transform:
    """Let an optimizer work on each matrix in a subspace of r dimensions, of which it keeps state.

    With G the gradient of a matrix with no more rows than columns, and D(·) what the optimizer
    points along:

        P ← the first r left singular vectors of G     at step 1, and every k-th after it
        D ← α·P·D(Pᵀ·G)

    and D is what learning rate and decoupled decay make a step of, as ever. Of a matrix with fewer
    columns it is G·Q with right singular vectors. What is no matrix, the optimizer sees as it is.
    What it keeps goes on in the new subspace as it was in the old.

    **Arguments:**

    - `tx`: an optimizer, or a chain or wrapper with one; of a chain the last one. Which leaves are
      stacks of matrices says its `axes`. What its rule itself does with parameters or shapes, as
      LAMB's and Muon's do, it does in the subspace.
    - `rank`: r ≥ 1; a matrix with a shorter side loses nothing.
    - `update_proj_gap`: k ≥ 1, 200 in the paper.
    - `scale`: α ≥ 0, a number or a schedule; 0.25 in the paper's runs.
    - `side`: which side of a matrix becomes r: its `"shorter"`, as in the paper, or its `"longer"`,
      as in optax, with less state and a larger projector.

    **State:** that of `tx`, of m×n matrices with r×n or m×r in place of m×n; and beside it
    `projector`, P or Q, in at least float32, and `scale`. A singular vector's largest entry is
    above 0.

    **Raises:** `ConfigError` where there is no optimizer; for one whose step is its own, that sees
    all leaves at once, or keeps parameters; for numbers out of range. `TreeError` for complex
    leaves.

    Source: Zhao et al., 2024, "GaLore: memory-efficient LLM training by gradient low-rank
    projection", algorithm 2 and definition 3.6. optax takes the singular vectors in float32, and
    no decay or norm of `tx` may be of the parameters.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.galore(jopt.adamw(0.1), rank=2)
    >>> params = {"w": jnp.ones((8, 64)), "b": jnp.ones(64)}
    >>> {k: x.shape for k, x in tx.init(params)["adamw"]["mu"].items()}
    {'b': (64,), 'w': (2, 64)}
    """
    check_transform("galore", tx)
    options = {
        "rank": check_count("galore", "rank", rank, 1, of="dimensions"),
        "update_proj_gap": check_count("galore", "update_proj_gap", update_proj_gap, 1),
        "side": side,
    }
    if not is_one_of(side, "shorter", "longer"):
        raise ConfigError(
            "galore",
            "a matrix has no such side",
            expected="side='shorter' or 'longer'",
            found=repr(side)[:100],
        )
    last = last_optimizers(tx.parts)
    if not last:
        raise ConfigError("galore", "there is no optimizer here", found=repr(tx))

    def lowered(part: Part) -> Part:
        if not (isinstance(part, SpecPart) and id(part) in last):
            return part
        _check(part, tx)
        by = ProjectedRun if isinstance(part, MatrixPart) else Projected
        return part.remade(
            _spec(part.spec),
            part.ending,
            {"scale": scale},
            rule=by(part.rule),
            prepare=Prepared(part.prepare),
            options=options,
        )

    return Transform({label: part.altered(lowered) for label, part in tx.parts.items()})


def _spec(spec: Spec) -> Spec:
    """The declaration of an optimizer in a subspace; torch has none."""

    def low(slot: Slot) -> Slot:
        made = Lowered(slot)
        return replace(slot, shape=made.shape, fits=made.fits)

    return replace(
        spec,
        hypers=(*spec.hypers, SCALE),
        slots=(*map(low, spec.slots), PROJECTOR),
        options={**spec.options, **dict.fromkeys(CHOICES)},
        counts=True,
        ageless=False,
        complex="no",
        elementwise=False,
        reduces="alone",
        torch=None,
    )


def _check(part: SpecPart, tx: Transform) -> None:
    spec = part.spec
    kept = [s.name for s in spec.slots if callable(s.init)]
    own = "its step is its own: no learning rate multiplies a direction"
    problem = {
        own: spec.gives == "update",
        "it sees more than one leaf": type(part) not in (LeafPart, MatrixPart),
        f"it keeps parameters, in {', '.join(kept)}": bool(kept),
        "its linear algebra has slots of its own": any(s.owned for s in spec.slots),
        "a stage reads its slots, put that around": any(
            stage.reads_slots or stage.spec.slots for stage in part.ending.stages
        ),
    }
    for words, holds in problem.items():
        if holds:
            raise ConfigError(
                "galore",
                f"{spec.name} cannot work in a subspace: {words}",
                expected="an optimizer such as adamw, lion, sgd or muon",
                found=repr(tx)[:200],
            )
    check_unused("galore", spec, (SCALE.name, PROJECTOR.name, *CHOICES), tx)
