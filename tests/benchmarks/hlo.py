"""The text of a compiled XLA program, as computations of instructions.

Only what `traffic` needs is read: names, array types, operands, and which computations an
instruction calls. XLA prints one instruction a line:

    ROOT %add.3 = f32[2,3]{1,0} add(%x, %y), metadata={...}
    %copy-done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

import jax.numpy as jnp

# Names of XLA's that are not numpy's. `token` and `opaque` are no arrays.
NARROW = {"pred": 8, "s4": 4, "u4": 4, "s2": 2, "u2": 2, "token": 0, "opaque": 0}
LONG = {"f": "float", "bf": "bfloat", "s": "int", "u": "uint", "c": "complex"}

ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
SPACE = re.compile(r"S\((\d+)\)")
HEADER = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*\{$")
ASSIGNMENT = re.compile(r"\s*(ROOT )?%([\w.\-]+) = ")
NAME = re.compile(r"%([\w.\-]+)")
CALLS = re.compile(
    r"\b(calls|to_apply|body|condition|branch_computations|true_computation|false_computation)="
    r"(?:%([\w.\-]+)|\{([^}]*)\})"
)
INDEX = re.compile(r"\bindex=(\d+)")
JOINED = 'custom_call_target="ConcatBitcast"'
"""By this call a TPU's program names slices, which were copied one beside the other, as one."""
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class ArrayType(NamedTuple):
    """The type of one array; `space` 0 is the device's main memory."""

    dtype: str
    dims: tuple[int, ...]
    space: int

    @property
    def nbytes(self) -> int:
        """Its size, without padding."""
        return (prod(self.dims) * bits(self.dtype) + 7) // 8


@dataclass(frozen=True)
class Instruction:
    """One line: its result's arrays, what it does, to what, and through which computations.

    `trips` are the turns of a loop, if XLA knows them; `number` is which parameter this is, or
    which element of a tuple it takes. `elements` are those of its own tuple, by how many arrays
    each has: one, unless it is a tuple again.
    """

    name: str
    opcode: str
    types: tuple[ArrayType, ...]
    operands: tuple[str, ...]
    calls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    trips: int | None = None
    number: int | None = None
    elements: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """The size of its result, wherever it is."""
        return sum(t.nbytes for t in self.types)

    @property
    def in_memory(self) -> int:
        """The size of what its result takes in the main memory."""
        return sum(t.nbytes for t in self.types if t.space == 0)


@dataclass(frozen=True)
class Computation:
    """Instructions by name, in the order they run; the last one, or the one marked, is the root."""

    name: str
    instructions: dict[str, Instruction]
    root: str

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Who reads what an instruction computes."""
        users: dict[str, list[Instruction]] = defaultdict(list)
        for one in self.instructions.values():
            for operand in one.operands:
                users[operand].append(one)
        return users


@dataclass(frozen=True)
class Program:
    """All computations of a module."""

    computations: dict[str, Computation]
    entry: str


def bits(dtype: str) -> int:
    """The size of one entry: `f32` has 32 bits, `f8e4m3fn` 8, `pred` 8."""
    if dtype in NARROW:
        return NARROW[dtype]
    letters, digits, rest = re.fullmatch(r"([a-z]+)(\d+)(\w*)", dtype).groups()
    return jnp.dtype(f"{LONG[letters]}{digits}{'_' if rest else ''}{rest}").itemsize * 8


def parse(text: str) -> Program:
    """The program that `compiled.as_text()` prints."""
    computations: dict[str, Computation] = {}
    entry = header = None
    body: dict[str, Instruction] = {}
    root = ""
    for line in text.splitlines():
        if found := HEADER.match(line):
            header, body, root = found[2], {}, ""
            entry = header if found[1] else entry
        elif line == "}" and header:
            computations[header] = Computation(header, body, root or next(reversed(body)))
            header = None
        elif header and (found := ASSIGNMENT.match(line)):
            body[found[2]] = _instruction(found[2], line[found.end() :])
            root = found[2] if found[1] else root
    if entry is None:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY computation")
    return Program(computations, entry)


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    opened = rest.index("(", end)
    closed = _closing(rest, opened)
    opcode, given, after = rest[end:opened].strip(), rest[opened:closed], rest[closed:]
    number = None
    if opcode == "parameter":
        number = int(given[1:-1])
    elif opcode == "get-tuple-element":
        number = int(INDEX.search(after)[1])
    elif opcode == "custom-call" and JOINED in after:
        opcode = "concat-bitcast"
    trips = TRIPS.search(after)
    return Instruction(
        name,
        opcode,
        types(rest[:end]),
        () if opcode == "constant" else tuple(NAME.findall(given)),
        {kind: tuple(NAME.findall(many)) or (one,) for kind, one, many in CALLS.findall(after)},
        int(trips[1]) if trips else None,
        number,
        elements(rest[:end]),
    )


def types(text: str) -> tuple[ArrayType, ...]:
    """The arrays of a type, a tuple's in order."""
    found = []
    for dtype, dims, layout in ARRAY.findall(text):
        space = SPACE.search(layout)
        sizes = tuple(int(d) for d in dims.split(",") if d)
        found.append(ArrayType(dtype, sizes, int(space[1]) if space else 0))
    return tuple(found)


def elements(text: str) -> tuple[int, ...]:
    """How many arrays each element of a type has: `(f32[2], (f32[], f32[]))` has 1 and 2."""
    if not text.startswith("("):
        return (1,)
    found, depth, start = [], 0, 1
    for i, letter in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
        if (letter == "," and depth == 1) or depth == 0:
            found.append(len(ARRAY.findall(text, start, i)))
            start = i + 1
        if depth == 0:
            break
    return tuple(n for n in found if n)


def _closing(text: str, opened: int) -> int:
    """The place after the parenthesis that closes the one at `opened`."""
    depth = 0
    for i in range(opened, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    raise ValueError(f"a parenthesis stays open: {text[:80]}")
