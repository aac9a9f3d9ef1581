"""What it costs to work on matrices, and by how many devices that is best done.

A matrix is one device's, or, where matrices are left that do not go round, a team's: its devices
share the operations, and pay for it with what they have to tell each other. Or all devices work on
it where it lies, see `in_place`. All of it is counted in operations of one device.
"""

from __future__ import annotations

import math

from jopt.core.ownership.classes import Class
from jopt.numerics import Work

IN_PLACE = 0

FLOPS_A_BYTE = 1000
"""The operations in the time of a byte from another device.

Of a TPU v5e: 197 T/s in bfloat16, 0.18 TB/s over both axes of its torus. An H100 does 990 T/s and
receives 0.45 TB/s, and its products of a matrix 1024 wide reach half of that.
"""
FLOPS_A_MOVE = 5e8
"""Those in the time that a collective takes to begin: 2.5 µs of a v5e."""


def team_for(cls: Class, work: Work | None, spreads: bool) -> int:
    """How large the teams of the matrices left are, 1 without teams; or `IN_PLACE`.

    **Arguments:** `work`: what a matrix takes, if teams can have it; `spreads`: whether there is a
    way to work on matrices where they lie.
    """
    left = cls.count % cls.devices
    size = team_size(left, cls.shape[0], cls.devices, work) if work and left else 1
    # Without `work` there is nothing to tell, and a matrix counts 1.
    of = work or Work(1.0, 0.0, 0)
    owned = (cls.count // cls.devices) * of.flops + (cost(of, size) if left else 0.0)
    return IN_PLACE if spreads and _in_place(cls, of) < owned else size


def _in_place(cls: Class, work: Work) -> float:
    """What a device does for a class where it lies; infinite where its columns do not go round.

    A product with a matrix of m rows and n columns, m ≤ n, is m²·n operations, and one of its Gram
    matrix m³. An owner has all columns of a matrix; in place, each of D devices has n / D columns
    of every matrix, and all work on the Gram matrices: (n / D + 2·m) / n of it, counted twice for
    the Gram matrices that they add up, and for operations on slices.
    """
    m, n = cls.shape
    if m > n or n % cls.devices:
        return math.inf
    return 2 * cls.count * work.flops * (n // cls.devices + 2 * m) / n


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
