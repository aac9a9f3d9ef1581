"""What a public factory is given: bound to its signature, and settled so that it can be kept."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, MappingView, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base.errors import CallError, ConfigError
from jopt.base.foreign_names import OURS, REMARKS

ROWS = ("Sequence[", "Iterable[", "tuple[")
Named = inspect.Parameter.VAR_KEYWORD
Rest = inspect.Parameter.VAR_POSITIONAL


class Signature:
    """The arguments that a factory takes, and what other libraries call them.

    **Arguments:**

    - `who`: the factory's name.
    - `signature`: with the arguments that it shares with others as parameters of their own.
    - `torch`: torch's names of its arguments, `"betas[0]"` for an entry of a tuple, and ours.
    """

    def __init__(
        self, who: str, signature: inspect.Signature, torch: Mapping[str, str] | None = None
    ) -> None:
        self.who = who
        self.plain = signature
        self.torch: Mapping[str, str] | dict[str, str] = torch or {}
        of = signature.parameters.values()
        self.positional: list[str] = [p.name for p in of if p.kind < Rest]
        self._any_number = any(p.kind is Rest for p in of)
        free = any(p.kind is Named for p in of)
        known = [p.name for p in of if p.kind not in (inspect.Parameter.POSITIONAL_ONLY, Rest)]
        self.names: list[str] | None = None if free else known
        # The arguments that are declared as a row of things. As text: to evaluate every
        # annotation takes its time.
        self.rows: set[str] = {p.name for p in of if str(p.annotation).startswith(ROWS)}
        # Numbers of things, and yes and no: they shape the program.
        self.static: set[str] = {
            p.name for p in of if str(p.annotation).split(" ")[0] in ("int", "bool")
        }
        self.flags: set[str] = {p.name for p in of if p.annotation in ("bool", bool)}
        self.numbers: set[str] = {p.name for p in of if p.annotation in ("float", float)}

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, settled; raises `CallError` where they do not fit."""
        if len(args) > len(self.positional) and not self._any_number:
            self._too_many(args)
        if not kwargs.keys() <= self.plain.parameters.keys():
            unknown = [k for k in kwargs if self.names is not None and k not in self.names]
            if unknown:
                raise CallError(
                    self.who,
                    f"there is no argument {unknown[0]!r}",
                    expected=", ".join(self.names or ()),
                    found=unknown[0],
                    fix=self.meant(unknown[0], self.names or []),
                )
        try:
            bound = self.plain.bind(*args, **kwargs)
        except TypeError as error:
            raise CallError(self.who, str(error), expected=f"{self.who}{self.plain}") from None
        for name, value in bound.arguments.items():
            if name in self.static and isinstance(value, jax.core.Tracer):
                raise CallError(
                    self.who,
                    f"{name} is a static choice, and cannot be traced",
                    expected="a Python number",
                    found=short(value),
                    fix=f"For optax.inject_hyperparams: static_args=({name!r},).",
                )
            value = (as_row if name in self.rows else settled)(value)
            bound.arguments[name] = self._fit(name, value)
        return bound

    def _fit(self, name: str, value: Any) -> Any:
        """`value` of a kind that the declaration allows: a flag, a number."""
        if name in self.flags and not isinstance(value, bool):
            raise CallError(
                self.who, f"{name} is yes or no", expected="True or False", found=short(value)
            )
        if name not in self.numbers:
            return value
        if isinstance(value, jax.core.Tracer):
            return self._traced(name, value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CallError(
                self.who, f"{name} is not a number", expected="a number", found=short(value)
            )
        if math.isnan(value):
            raise CallError(self.who, f"{name} is NaN", expected="a number", found="nan")
        # An int past int32 is none that jax takes.
        large = isinstance(value, int) and abs(value) >= 2**31
        return float(min(max(value, -(2**1000)), 2**1000)) if large else value

    def _traced(self, name: str, value: Any) -> Any:
        """A traced number in the dtype of numbers, as Python's would be."""
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
        if real and value.shape == ():
            return value.astype(float) if jnp.issubdtype(value.dtype, jnp.integer) else value
        raise CallError(
            self.who,
            f"{name} is not a number",
            expected="a number, traced or not",
            found=f"a traced {value.dtype} of shape {value.shape}",
            fix="Several at once are of jax.vmap." if real else None,
        )

    def _too_many(self, args: tuple[Any, ...]) -> None:
        most, names = len(self.positional), self.names or []
        rest = [f"{name}=" for name in names if name not in self.positional]
        told = f"Name what follows: {', '.join(rest)}." if rest else None
        raise CallError(
            self.who,
            f"takes {most} arguments by position"
            if most != 1
            else "takes one argument by position",
            expected=", ".join(self.positional) or "none",
            found=f"{len(args)}: {', '.join(map(short, args))}",
            fix=told,
        )

    def meant(self, name: str, known: list[str]) -> str | None:
        """What to write in place of another library's name, or of a misspelt one."""
        return meant(name, known, self.torch)


def meant(name: str, known: Collection[str], torch: Mapping[str, str] | None = None) -> str | None:
    """Which of the known arguments another library's name means, or a misspelt one."""
    spelt = [ours for theirs, ours in (torch or {}).items() if theirs.split("[")[0] == name]
    spelt = spelt or [ours for ours in OURS.get(name, ()) if ours in known]
    if not spelt and name in REMARKS:
        return REMARKS[name]
    spelt = spelt or difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {' and '.join(f'{ours}=' for ours in spelt)}?" if spelt else None


def whole_number(
    who: str, name: str, value: Any, least: int, of: str = "steps", *, counted: bool = False
) -> int:
    """A number of things as an int; `ConfigError` for what is none, or below `least`.

    What is `counted` on a device must fit into 32 bits.
    """
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            who,
            f"{name} is a number of {of}",
            expected=f"an int of at least {least}",
            found=repr(value)[:100],
        )
    if counted and value >= 2**31:
        raise ConfigError(who, f"{name} is too large", expected="below 2**31", found=short(value))
    return value


def short(value: Any) -> str:
    """What stands in an error for a value that may be long."""
    told = repr(value)
    return told if len(told) <= 40 else f"{told[:37]}..."


def plain(value: Any) -> Any:
    """A concrete 0-d array or NumPy scalar as the Python number it holds; else `value`.

    A traced number stays traced, also where jax could tell its value: it carries a derivative.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, jax.core.Tracer) or getattr(value, "shape", None) != ():
        return value
    numeric = hasattr(value, "dtype") and hasattr(value, "item")
    # A random key has a shape and no number.
    return value.item() if numeric and not _is_key(value) else value


def is_traced(value: Any) -> bool:
    """Whether jax is tracing what this number will be."""
    return isinstance(value, jax.core.Tracer)


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended)


def settled(value: Any) -> Any:
    """`value` as it can be kept: numbers plain, and nothing that a reader uses up or others change.

    An iterator is used up by whoever reads it first, a view follows its dict, a set has no order:
    each becomes a tuple, a set a sorted one. Lists and mappings are copied.
    """
    value = plain(value)
    if isinstance(value, Mapping):
        return {k: settled(v) for k, v in value.items()}
    if isinstance(value, Set) and not isinstance(value, MappingView):
        return tuple(settled(v) for v in in_order(value))
    if isinstance(value, Iterator | MappingView | range) or type(value) is tuple:
        return tuple(settled(v) for v in value)  # type: ignore[union-attr]
    return [settled(v) for v in value] if type(value) is list else value


def as_row(value: Any) -> Any:
    """What is given for a row of things, as a tuple; anything that is no row as it is."""
    if isinstance(value, np.ndarray | jax.Array):
        if not value.ndim or _is_key(value):
            return settled(value)
        value = value.tolist() if not isinstance(value, jax.core.Tracer) else value
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return settled(value)
    kept = settled(value)
    if not isinstance(kept, Iterable):  # an array of another library's that holds one number
        return kept
    return tuple(kept if isinstance(kept, tuple | list) else map(settled, kept))


def in_order(values: Set[Any]) -> list[Any]:
    """The members of a set in an order that is the same in every process, if they have one."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)
