"""What it costs to work on a matrix, and by how many devices that is best done.

Where matrices are left that do not go round, a matrix may be a team's: its devices share the
operations, and pay for it with what they have to tell each other. Both are counted in operations.
"""

from __future__ import annotations

from jopt.numerics import Work

FLOPS_A_BYTE = 1000
"""The operations in the time of a byte from another device.

Of a TPU v5e: 197 T/s in bfloat16, 0.18 TB/s over both axes of its torus. An H100 does 990 T/s and
receives 0.45 TB/s, and its products of a matrix 1024 wide reach half of that.
"""
FLOPS_A_MOVE = 5e8
"""Those in the time that a collective takes to begin: 2.5 µs of a v5e."""


def cost(work: Work, size: int) -> float:
    """What a device of a team of this size does for a matrix, in operations."""
    if size == 1:
        return work.flops
    others = (size - 1) / size
    told = FLOPS_A_BYTE * others * work.nbytes + FLOPS_A_MOVE * work.moves
    return work.flops / size + told


def team_size(matrices: int, rows: int, devices: int, work: Work) -> int:
    """The devices that each of so many matrices of so many rows gets: those that cost least.

    All teams are of one size, which divides the devices and the rows of a matrix.
    """
    fits = range(1, devices // matrices + 1)
    sizes = [size for size in fits if devices % size == 0 and rows % size == 0]
    return min(sizes, key=lambda size: cost(work, size))
