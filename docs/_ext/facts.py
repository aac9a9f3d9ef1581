"""What an optimizer is, as its spec and its own answers have it: nothing here is typed by hand."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

import jopt
from jopt.core.doors import LeafPart, TreePart
from jopt.core.matrixwise import MatrixPart
from jopt.core.sparse_rows import RowPart

M, N = 2048, 1024
"""A matrix of another length each way, and larger than what any option is by default."""

MATRIX, VECTOR = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((M, N), (N,)))
TABLE = Path(__file__).parent.parent / "optax_names.md"

DECAYS = {
    "gradient": "in the gradient, g + λ·p (coupled)",
    "direction": "in the direction",
    "step": "in the step, p·(1 − η·λ) (decoupled)",
    "rule": "where its paper has it",
    None: "",
}
ON_A_MESH = (
    (MatrixPart, "whole matrices are dealt out to the devices, by one all-to-all each way"),
    (TreePart, "state lies as the parameters do; numbers of all leaves are summed over devices"),
    (RowPart, "state lies as the parameters do"),
)


@dataclass(frozen=True)
class Slot:
    """One slot: the shapes it has for a matrix and for a vector, and when there is one."""

    name: str
    matrix: str
    vector: str
    dtype: str
    when: str
    torch: str


class Facts:
    """An optimizer's own answers: its spec, and what it makes of a matrix and of a vector."""

    def __init__(self, factory: Callable[..., jopt.Transform]) -> None:
        self.factory = factory
        self.name = factory.__name__
        self.part: Any = next(iter(factory().parts.values()))
        self.spec: jopt.Spec = self.part.spec
        self.takes = inspect.signature(factory).parameters

    def node(self, **choices: Any) -> Mapping[str, Any]:
        """Its node of state for a matrix and, if it takes one, a vector: shapes alone."""
        params = {"matrix": MATRIX, "vector": VECTOR} if self.moves(1) else {"matrix": MATRIX}
        state = jax.eval_shape(self.factory(**choices).init, params)
        return next(iter(state.values()))

    def moves(self, ndim: int) -> bool:
        """Whether it takes parameters of so many axes."""
        allowed = self.spec.ndim
        return (
            allowed is None or ndim == allowed or (isinstance(allowed, tuple) and ndim in allowed)
        )

    @functools.cached_property
    def slots(self) -> list[Slot]:
        """Its slots, those that a choice brings too."""
        node, found = self.node(), []
        for slot in self.spec.slots:
            held = node.get(slot.name, {})
            shared = slot.scope == "group"
            shapes = [held.get("default" if shared else kind) for kind in ("matrix", "vector")]
            here = any(x is not None for x in shapes)
            if not here and not (when := self._brought_by(slot)):
                continue
            if not here:  # what `like` and the others mean is asked of the slot itself
                on = {**self.part.options, when: True}
                fits = [x if slot.held_by(x.shape, on) else None for x in (MATRIX, VECTOR)]
                shapes = [
                    x
                    if x is None
                    else jax.ShapeDtypeStruct(slot.shape_for(x.shape, on), slot.dtype or x.dtype)
                    for x in fits
                ]
            else:
                when = "for each group" if shared else ""
            told = [_shape(x) for x in shapes]
            dtype = next(str(x.dtype) for x in shapes if x is not None)
            found.append(Slot(slot.name, *told, dtype, when, slot.torch or ""))
        return found

    def _brought_by(self, slot: Any) -> str:
        """The one choice, or number, that brings a slot which is not there by default."""
        for name, value in self.part.options.items():
            if (
                isinstance(value, bool)
                and slot.when
                and slot.when({**self.part.options, name: not value})
            ):
                return name
        return ""

    def bytes(self, kind: str, **choices: Any) -> float | None:
        """Bytes of state for each entry of a float32 matrix or vector; `None` if refused."""
        try:
            node = self.node(**choices)
        except jopt.JoptError:
            return None
        of = MATRIX if kind == "matrix" else VECTOR
        held = [node[s.name].get(kind) for s in self.spec.slots if s.name in node]
        leaves = jax.tree.leaves(held)
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves) / math.prod(of.shape)

    def works(self, make: Callable[[], Any]) -> bool:
        """Whether jopt makes this of it."""
        try:
            make()
        except jopt.JoptError:
            return False
        return True

    @functools.cached_property
    def supports(self) -> list[tuple[str, str]]:
        """What it takes and works with, each with how."""
        takes = self.takes
        int8 = (
            self.works(lambda: self.factory(state_dtype="int8"))
            if "state_dtype" in takes
            else False
        )
        pallas = int8 and self.works(lambda: self.factory(state_dtype="int8", kernel="pallas"))
        half = "state_dtype" in takes and self.works(lambda: self.factory(state_dtype="bfloat16"))
        kinds = [k for k, yes in (("``int8``", int8), ("``bfloat16``", half)) if yes]
        rows = [
            ("parameters", self._parameters()),
            ("``groups=``", "yes" if "groups" in takes else "no"),
            ("``state_dtype=``", " and ".join(kinds) or "no"),
            ('``kernel="pallas"``', "yes, with 8-bit slots" if pallas else "no"),
            ("``axes=``", self._axes()),
            ("weight decay", self._decay()),
            ("``jopt.direction``", _yes(self.works(lambda: jopt.direction(self.factory())))),
            (
                "``jopt.cautious`` and its like",
                _yes(self.works(lambda: jopt.cautious(self.factory()))),
            ),
            ("``update`` needs", self._needs()),
            ("on a mesh", self._on_a_mesh()),
        ]
        return [(k, v) for k, v in rows if v]

    def _parameters(self) -> str:
        axes = {None: "any shape", 2: "matrices (other leaves by ``axes=`` or ``jopt.route``)"}
        ndim = self.spec.ndim
        told = axes.get(
            ndim, f"of {', '.join(map(str, ndim))} axes" if isinstance(ndim, tuple) else ""
        )
        return f"{told}; " + ("complex as pairs" if self.spec.complex == "pairs" else "no complex")

    def _axes(self) -> str:
        if "axes" not in self.takes:
            return "no"
        if averages := getattr(self.part, "averages", None):
            return f"with ``{averages}=True`` says which tensors a leaf holds"
        return (
            "says which tensors a leaf holds" if self.part.looks else "not needed: each entry alone"
        )

    def _decay(self) -> str:
        if not any(h.name == "weight_decay" for h in self.spec.hypers):
            return "none of its own"
        other = "; elsewhere by ``decoupled=``" if "decoupled" in self.takes else ""
        return (DECAYS[self.spec.decay] or "in its rule") + other

    def _needs(self) -> str:
        extra = self.spec.extra_under(self.part.options)
        by = self.spec.params_by
        needs = [f"``{name}=``" for name in extra]
        if by is None:
            needs.append("``params``")
        elif by:
            numbers = " or ".join(f"``{name}``" for name in by)
            needs.append(f"``params``, unless {numbers} is 0")
        return ", ".join(needs) or "the gradients alone"

    def _on_a_mesh(self) -> str:
        for kind, told in ON_A_MESH:
            if isinstance(self.part, kind):
                return told
        alone = isinstance(self.part, LeafPart) and not self.part.looks
        quiet = ", each device steps what it holds"
        return "state lies as the parameters do" + (quiet if alone else "; sums go over split axes")

    @functools.cached_property
    def numbers(self) -> list[tuple[str, str, str, str]]:
        """Its numbers: name, default, range, and torch's name."""
        found = []
        for hyper in self.spec.hypers:
            if hyper.name in self.takes:
                default = self.takes[hyper.name].default
                fixed = "" if hyper.scheduled else ", no schedule"
                off = default is False or (default is None and bool(hyper.optional))
                default = "off" if off else _number(default)
                found.append((hyper.name, default, hyper.valid + fixed, hyper.torch or ""))
        return found

    @property
    def torch(self) -> str:
        """torch's name for it."""
        return f"torch.optim.{self.spec.torch}" if self.spec.torch else ""

    @property
    def optax(self) -> list[str]:
        """optax's names for it, as the page of optax's names has them."""
        return optax_names().get(self.name, [])


@functools.cache
def optax_names() -> dict[str, list[str]]:
    """For each name of jopt the names of optax that it stands for."""
    found: dict[str, list[str]] = {}
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or cells[1] not in ("same", "other"):
            continue
        theirs = re.findall(r"`(\w+)`", cells[0])
        ours = re.findall(r"`jopt\.(?:\w+\.)*(\w+)[`(]", cells[2])[:1]
        for name in theirs:
            home = "optax.contrib." if in_contrib(name) else "optax."
            for mine in [name] if cells[1] == "same" else ours if len(theirs) == 1 else []:
                found.setdefault(mine, []).append(home + name)
    return found


@functools.cache
def _contrib() -> frozenset[str]:
    section = TABLE.read_text().split("\n## optax.contrib\n", 1)[1].split("\n## ", 1)[0]
    return frozenset(
        re.findall(r"`(\w+)`", "\n".join(x.split("|")[1] for x in section.splitlines() if "|" in x))
    )


def in_contrib(name: str) -> bool:
    """Whether optax has a name in `contrib`."""
    return name in _contrib()


def _shape(x: Any) -> str:
    if x is None:
        return "—"
    if not hasattr(x, "shape"):  # codes and their scales
        x = x["codes"]
    named = {M: "m", N: "n"}
    return (
        "(" + ", ".join(str(named.get(d, d)) for d in x.shape) + ("," if x.ndim == 1 else "") + ")"
    )


def _yes(it: bool) -> str:
    return "yes" if it else "no"


def _number(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
