"""What a program for many devices costs one of them, read off its text: arithmetic and traffic.

    python -m tests.benchmarks.on_mesh --layers 24 --width 1024

compiles, and does not run, Muon's step of a GPT's matrices for sixteen simulated devices, and
prints what `docs/sharding.md` quotes.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.benchmarks.hlo import Computation, Instruction, Program, parse
from tests.benchmarks.reports import say

MOVES = ("all-to-all", "all-gather", "all-reduce", "reduce-scatter", "collective-permute")
CONTRACTED = re.compile(
    r"^\s*(?:ROOT )?%([\w.\-]+) = .*\bdot\(.*lhs_contracting_dims=\{([\d,]*)\}", re.M
)


@dataclass(frozen=True)
class Cost:
    """What one device does in one call: operations of matrix products, collectives, bytes of them.

    Those of less than `small` bytes, such as a norm's, are left out.
    """

    flops: int
    counts: Mapping[str, int]
    nbytes: Mapping[str, int]

    @property
    def moved(self) -> int:
        """All bytes that collectives give this device."""
        return sum(self.nbytes.values())


def cost(text: str, small: int = 0) -> Cost:
    """What the program with this text costs a device."""
    program = parse(text)
    contracted = {name: [*map(int, dims.split(","))] for name, dims in CONTRACTED.findall(text)}
    flops, counts, nbytes = 0, Counter[str](), Counter[str]()
    for within, one, times in _run(program, program.computations[program.entry], 1):
        kind = one.opcode.removesuffix("-start")
        if one.opcode == "dot":
            left = next(iter(within.instructions[one.operands[0]].types)).dims
            over = prod(left[i] for i in contracted[one.name])
            flops += times * 2 * prod(one.types[0].dims) * over
        elif kind in MOVES and one.nbytes >= small:
            counts[kind] += times
            nbytes[kind] += times * one.nbytes
    return Cost(flops, dict(counts), dict(nbytes))


def _run(
    program: Program, within: Computation, times: int
) -> Iterator[tuple[Computation, Instruction, int]]:
    for one in within.instructions.values():
        yield within, one, times
        for names in one.calls.values():
            for name in names:
                turns = times * (one.trips or 1)
                yield from _run(program, program.computations[name], turns)


def matrices(layers: int, width: int) -> dict[str, tuple[int, int]]:
    """The shapes of the matrices of a GPT's layers: four square, one wide, one tall in each."""
    square, up, down = (width, width), (width, 4 * width), (4 * width, width)
    layer = {"q": square, "k": square, "v": square, "o": square, "up": up, "down": down}
    return {f"{i}/{name}": shape for i in range(layers) for name, shape in layer.items()}


def laid(mesh: Any, shapes: Mapping[str, tuple[int, ...]], spec: Any) -> dict[str, Any]:
    """These as parameters of which nothing is there but where they lie."""
    where = NamedSharding(mesh, spec)
    return {k: jax.ShapeDtypeStruct(s, jnp.float32, sharding=where) for k, s in shapes.items()}


def step(tx: jopt.Transform, params: Any) -> tuple[Any, float]:
    """A step of `tx`, compiled where the parameters lie, and the seconds that took."""
    where = jax.tree.map(lambda p: p.sharding, params)
    kept = jopt.sharding.state_sharding(tx, params)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        kept,
    )
    began = time.process_time()
    made = jax.jit(tx.update, out_shardings=(where, kept)).lower(params, state, params).compile()
    return made, time.process_time() - began


def main() -> None:
    """Print the table."""
    given = argparse.ArgumentParser()
    given.add_argument("--layers", type=int, default=24)
    given.add_argument("--width", type=int, default=1024)
    given.add_argument("--auto", action="store_true")
    given.add_argument("--only", default="")
    said = given.parse_args()
    shapes = matrices(said.layers, said.width)
    kind = AxisType.Auto if said.auto else AxisType.Explicit
    # Five iterations of Newton-Schulz: two products with the matrix, one of its Gram matrix.
    even = sum(5 * (4 * min(s) ** 2 * max(s) + 2 * min(s) ** 3) for s in shapes.values()) / 16
    for sizes, spec in (
        ((16,), P("f")),
        ((16,), P(None, "f")),
        ((4, 4), P("f", "t")),
        ((4, 4), P(("f", "t"))),
        ((4, 4), P(None, "t")),
        ((16,), P()),
    ):
        if said.only and said.only != f"{sizes} {spec}":
            continue
        mesh = jax.make_mesh(sizes, ("f", "t")[: len(sizes)], axis_types=(kind,) * len(sizes))
        params = laid(mesh, shapes, spec)
        tx = jopt.muon(1e-2)
        tx = jopt.sharding.laid_out(tx, params) if said.auto else tx
        made, seconds = step(tx, params)
        found = cost(made.as_text(), 1024)
        temporary = made.memory_analysis().temp_size_in_bytes
        say(
            f"{sizes} {spec}: arithmetic {found.flops / even:.3f}, {found.counts}, "
            f"{found.moved / 1e6:.1f} MB, temporaries {temporary / 1e6:.0f} MB, {seconds:.1f} s"
        )


if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=16"
    main()
