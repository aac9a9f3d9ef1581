"""Functions of the user's that jax traces, and branch in Python on what they are given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from jopt.base.errors import ConfigError


@contextlib.contextmanager
def unbranched(who: str, what: str, found: str | None = None) -> Iterator[None]:
    """Turn jax's error about a Python `if` inside of `what` into a `ConfigError`."""
    try:
        yield
    except jax.errors.ConcretizationTypeError as error:
        raise ConfigError(
            who,
            f"{what} branches in Python on a number that jax traces",
            expected="a function that jax can trace: no `if`, `while`, float() or int() on it",
            found=found,
            fix="Choose with jnp.where, or with jax.lax.cond.",
        ) from error
