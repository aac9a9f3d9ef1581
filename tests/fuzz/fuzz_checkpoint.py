"""Coverage-guided fuzzing of what reads checkpoints, with atheris. CONTRIBUTING.md has the command.

The oracle is `tests.checkpoint.oracle.check`, within bounds of time and memory. Of four inputs
three are changed by one who knows the format and mends the checksums, so that what lies behind
the checks is reached.
"""

import random
import resource
import sys
import time

import atheris

with atheris.instrument_imports(include=["jopt.checkpoint"], enable_loader_override=False):
    import jopt.checkpoint  # noqa: F401

from jopt.checkpoint import manifest, wire
from tests.checkpoint.mutate import mutated
from tests.checkpoint.oracle import check

SECONDS, MEGABYTES = 5.0, 256


def mutate(data, max_size, seed):
    """One input from another."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        data = atheris.Mutate(data, max_size)
        if rng.random() < 0.5:
            return data
    return mutated(data, rng, max_size)


def one_input(data):
    """Read as it is, and as a file of arrays in pieces."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for wire.CHUNK in (2**30, 64):
        manifest.LIMIT = wire.CHUNK * 2**31
        check(data)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"{grown:.0f} MB for {len(data)} bytes"
    assert time.perf_counter() - start < SECONDS, "too slow"


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
    atheris.Fuzz()
