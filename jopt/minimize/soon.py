"""`by_pairs` for few parameters, compiled in less time."""

from __future__ import annotations

from typing import Any

import jax

from jopt.minimize.by_pairs import by_pairs
from jopt.minimize.problem import Objective, Packed
from jopt.minimize.result import Minimum

FEW = 100
QUICK = {"xla_cpu_use_fusion_emitters": False}
"""XLA's elder way to make kernels for a CPU: half the time for a loop of many small ones.

Most functions run as fast with it; some that go through a product of matrices take half as long
again.
"""
refused: list[str] = []
"""What XLA said if it knows that no more."""


def soon(objective: Objective, packed: Packed, *args: Any) -> Minimum:
    """`by_pairs`, compiled quickly where that can be asked for: on a CPU, and not within a program.

    What a caller compiles himself is compiled as he says.
    """
    if packed.size <= FEW and jax.default_backend() == "cpu" and not refused:
        try:
            found: Minimum = _quick(objective, packed, *args)
            return found
        except ValueError as error:  # within `jax.jit`, which has options of its own
            if "compiler_options" not in str(error):
                raise
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" not in str(error):
                raise
            refused.append(str(error))
    slowly: Minimum = by_pairs(objective, packed, *args)
    return slowly


_loop: Any = by_pairs
_quick = jax.jit(_loop.__wrapped__, static_argnums=(0, 1, 2), compiler_options=QUICK)
