"""Arrays of float64, for as long as something takes."""

from __future__ import annotations

import contextlib
from typing import Any

import jax


def doubles(on: bool = True) -> contextlib.AbstractContextManager[Any]:
    """A context in which arrays may be float64 ones, or, if not `on`, may not."""
    # An older jax has it among what is experimental.
    enable: Any = (jax if hasattr(jax, "enable_x64") else jax.experimental).enable_x64
    context: contextlib.AbstractContextManager[Any] = enable(on)
    return context
