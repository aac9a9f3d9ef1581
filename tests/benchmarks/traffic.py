"""What a compiled program costs: its kernels, and the memory that they read and write.

A kernel is an instruction that is not bookkeeping (`FREE`). It moves its operands and its
results, with these exceptions, each of them read from the program:

- A write into a buffer in place (`dynamic-update-slice`, alone or at the end of a fusion) moves
  the slice, not the buffer; and of an array that it takes only slices from, a kernel reads those.
- A result that nothing reads (the scratch of a library call) is not moved.
- What stays on the chip (TPU: memory spaces other than the main one) is not either.
- The body of a loop counts as often as it runs.
- Of the branches of a conditional the one that moves most is counted, or least if so asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tests.benchmarks.hlo import Computation, Instruction, Program, parse

FREE = {
    "parameter",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "concat-bitcast",
    "constant",
    "after-all",
}
SLICES = {"slice", "dynamic-slice", "gather"}
WRITE = "dynamic-update-slice"


@dataclass(frozen=True)
class Counts:
    """`kernels` that run, `bytes` that they move, and the `loops` there are."""

    kernels: float = 0
    bytes: float = 0
    loops: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.kernels + other.kernels, self.bytes + other.bytes, self.loops + other.loops
        )

    def __mul__(self, n: float) -> Counts:
        """The same, run `n` times."""
        return Counts(self.kernels * n, self.bytes * n, self.loops)


class Kernel(NamedTuple):
    """One instruction that runs, and what it moves."""

    name: str
    opcode: str
    bytes: int


class Turns(NamedTuple):
    """Those given for the next loops, and those of loops that nobody knows anything of."""

    given: list[float]
    rest: float | Sequence[float] | None
    branch: Callable[..., Any] = max

    @property
    def next(self) -> float | None:
        """Those of such a loop here."""
        return (*self.rest, 0)[0] if isinstance(self.rest, Sequence) else self.rest

    @property
    def within(self) -> Turns:
        """The same for what is in a loop."""
        rest = self.rest[1:] if isinstance(self.rest, Sequence) else self.rest
        return self._replace(rest=rest)


def count(
    program: str | Program,
    turns: Sequence[float] = (),
    rest: float | Sequence[float] | None = None,
    branch: Callable[..., Any] = max,
) -> Counts:
    """The counts of a program.

    **Arguments:**

    - `program`: parsed, or the text of a compiled one.
    - `turns`: how often each loop runs, on average, in the order in which they stand in the
      program, a loop before those within it. After the last of them come the turns that XLA has
      written down, as it does for a loop that counts to a number.
    - `rest`: the turns of loops after the last of those of which XLA knows none; or a list of
      them, by how deep these lie.
    - `branch`: of a conditional that counts which moves most, with `min` that which moves least.

    **Raises:** `ValueError` if `turns` does not fit the loops that there are.
    """
    program = parse(program) if isinstance(program, str) else program
    left = Turns(list(turns), rest, branch)
    total = _count(program, program.computations[program.entry], left)
    if left.given:
        few = f"{len(left.given)} of {len(turns)} turns are left over: there are fewer loops"
        raise ValueError(few)
    return total


def kernels(program: Program, computation: str | None = None) -> Iterator[Kernel]:
    """The kernels of one computation (the entry), without those of loops and branches."""
    inside = program.computations[computation or program.entry]
    for one in inside.instructions.values():
        if not (_is_free(one) or one.opcode in ("while", "conditional", "call")):
            yield Kernel(one.name, one.opcode, _moved(program, inside, one))


def _count(program: Program, inside: Computation, turns: Turns) -> Counts:
    total = Counts()
    for one in inside.instructions.values():
        called = {k: [program.computations[n] for n in names] for k, names in one.calls.items()}
        if one.opcode == "while":
            total += _loop(program, one, turns)
        elif one.opcode == "conditional":
            branches = [c for some in called.values() for c in some]
            costs = (_count(program, c, turns) for c in branches)
            total += turns.branch(costs, key=lambda n: n.bytes)
        elif one.opcode == "call":
            total += _count(program, called["to_apply"][0], turns)
        elif not _is_free(one):
            total += Counts(1, _moved(program, inside, one))
    return total


def _loop(program: Program, loop: Instruction, turns: Turns) -> Counts:
    n = turns.given.pop(0) if turns.given else turns.next if loop.trips is None else loop.trips
    if loop.trips not in (None, n):
        raise ValueError(f"the loop %{loop.name} runs {loop.trips} times, not {n}")
    if n is None:
        raise ValueError(f"no turns are given for the loop %{loop.name}, and XLA knows none")
    (body,), (condition,) = loop.calls["body"], loop.calls["condition"]
    within = turns.within if loop.trips is None else turns
    cost = _count(program, program.computations[body], within) * n
    cost += _count(program, program.computations[condition], within) * (n + 1)
    return replace(cost, loops=cost.loops + 1)


def _is_free(one: Instruction) -> bool:
    # What runs beside the others is a pair, `x-start` and `x-done`: counted where it ends.
    return one.opcode in FREE or one.opcode.endswith("-start")


def _moved(program: Program, inside: Computation, one: Instruction) -> int:
    """The bytes that one kernel moves."""
    operands = [inside.instructions[name] for name in one.operands]
    if one.opcode.endswith("-done"):
        # A copy or a slice reads as much as it writes, from or to the main memory.
        source = sum(inside.instructions[n].in_memory for n in operands[0].operands)
        return min(source, one.nbytes) + one.in_memory
    if "calls" in one.calls:
        fused = program.computations[one.calls["calls"][0]]
        reads, writes = _fusion(fused, operands, len(one.elements))
    else:
        reads, writes = _alone(one, operands)
    users = inside.users[one.name]
    taken = {user.number for user in users if user.opcode == "get-tuple-element"}
    apart = users and all(user.opcode == "get-tuple-element" for user in users)
    moved = sum(min(n, x.in_memory) for n, x in zip(reads, operands, strict=True))
    arrays = iter(one.types)
    for i, (n, count) in enumerate(zip(writes, one.elements, strict=True)):
        for t in itertools.islice(arrays, count):
            if t.space == 0 and (i in taken or not apart):
                moved += min(n, t.nbytes)
    return moved


Amounts = tuple[list[float], list[float]]
"""What is read of each operand, and what is written of each result, infinity for all of it."""

ALL = float("inf")


def _alone(one: Instruction, operands: list[Instruction]) -> Amounts:
    """What an instruction moves that is no fusion."""
    reads, writes = [ALL] * len(operands), [ALL] * len(one.elements)
    if one.opcode == WRITE:
        reads[0], writes[0] = 0, operands[1].nbytes
    elif one.opcode in SLICES:
        reads[0] = one.nbytes
    return reads, writes


def _fusion(fused: Computation, operands: list[Instruction], results: int) -> Amounts:
    """What a fusion moves: its computation says what happens to each parameter."""
    inside = fused.instructions.values()
    parameters = {i.number: i.name for i in inside if i.opcode == "parameter"}
    reads = [_read(fused, parameters[n]) for n in range(len(operands))]
    root = fused.instructions[fused.root]
    names = list(root.operands) if root.opcode == "tuple" else [root.name] * results
    return reads, [_written(fused, name) for name in names]


def _read(body: Computation, parameter: str) -> float:
    amount = 0
    for user, name in _readers(body, parameter):
        first = name not in user.operands[1:]
        if user.opcode == WRITE and first and _in_place(body, user):
            continue
        if user.opcode not in SLICES or not first:
            return ALL
        amount += user.nbytes
    return amount


def _readers(body: Computation, name: str) -> list[tuple[Instruction, str]]:
    """Who reads a result, itself or through bitcasts, and by what name."""
    found = []
    for user in body.users[name]:
        if user.opcode == "bitcast" and user.name != body.root:
            found += _readers(body, user.name)
        else:
            found.append((user, name))
    return found


def _written(body: Computation, name: str) -> float:
    one = _behind_bitcasts(body, name)
    if one.opcode != WRITE or not _in_place(body, one):
        return ALL
    before = _behind_bitcasts(body, one.operands[0])
    earlier = _written(body, before.name) if before.opcode == WRITE else 0
    return body.instructions[one.operands[1]].nbytes + earlier


def _in_place(body: Computation, write: Instruction) -> bool:
    """Whether a fusion can write into the buffer it is given: it reads but slices of it."""
    buffer = _behind_bitcasts(body, write.operands[0])
    readers = [user for user, _ in _readers(body, buffer.name)]
    if buffer.opcode == WRITE:
        return readers == [write] and _in_place(body, buffer)
    return buffer.opcode == "parameter" and all(r is write or r.opcode in SLICES for r in readers)


def _behind_bitcasts(body: Computation, name: str) -> Instruction:
    one = body.instructions[name]
    return _behind_bitcasts(body, one.operands[0]) if one.opcode == "bitcast" else one
