"""A method of `minimize` for few parameters, compiled in less time."""

from __future__ import annotations

import functools
from typing import Any

import jax

from jopt.minimize.by_pairs import by_pairs
from jopt.minimize.points import FEW
from jopt.minimize.problem import Objective, Packed
from jopt.minimize.result import Minimum

QUICK = {"xla_cpu_use_fusion_emitters": False}
"""XLA's elder way to make kernels for a CPU: half the time for a loop of many small ones.

Most functions run as fast with it; some that go through a product of matrices take half as long
again.
"""
refused: list[str] = []
"""What XLA said if it knows that no more."""


def soon(method: str, objective: Objective, packed: Packed, *args: Any) -> Minimum:
    """One of the loops, compiled quickly where that can be asked for: on a CPU, not in a program.

    What a caller compiles himself is compiled as he says.
    """
    loop, quick = (by_pairs, _quick) if method == "lbfgs" else _newton()
    if packed.size <= FEW and jax.default_backend() == "cpu" and not refused:
        try:
            found: Minimum = quick(objective, packed, *args)
            return found
        except ValueError as error:  # within `jax.jit`, which has options of its own
            if "compiler_options" not in str(error):
                raise
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" not in str(error):
                raise
            refused.append(str(error))
    slowly: Minimum = loop(objective, packed, *args)
    return slowly


def _quickly(loop: Any) -> Any:
    return jax.jit(loop.__wrapped__, static_argnums=(0, 1, 2), compiler_options=QUICK)


_quick = _quickly(by_pairs)


@functools.cache
def _newton() -> tuple[Any, Any]:
    from jopt.minimize.by_newton import by_newton  # which few programs need

    return by_newton, _quickly(by_newton)
