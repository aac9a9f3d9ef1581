"""What a spec declares: the numbers and the slots of an optimizer."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jopt.base import NO_ARRAY, ConfigError, called, check_fields, is_one_of, plain, takes
from jopt.numerics.explicit import born, placed

Shape = tuple[int, ...]
"""The length of each axis of an array."""
Options = Mapping[str, Any]
"""The static choices of a call by name, and for each hyperparameter whether it is on."""
Axes = tuple[int | None, ...]
"""For each axis of a slot the axis of its parameter that it runs along, or `None`."""
ShapeRule = Literal["like", "row", "column", "scalar"] | Callable[[Shape, Options], Shape]
"""How a slot's shape follows from its parameter's, see `jopt.Slot`."""


@dataclass(frozen=True)
class Hyper:
    """A numeric hyperparameter: it lives in the state, and may be a schedule.

    **Arguments:**

    - `name`: as the factory and `hyperparams` call it.
    - `valid`: the interval of allowed values, `[` and `]` closed, `(` and `)` open.
    - `torch`: torch's key for it, `"betas[0]"` for an entry of a tuple; `None` if it has none.
    - `scheduled`: whether a schedule may drive it; not if it is read only once.
    - `optional`: whether `None` switches it off, which takes it out of the state. `"zero"`: so do
      `False` and the number 0, unless a group has its own.
    - `beside`: another hyperparameter, without which it has no meaning: it is off where that is.
    """

    name: str
    valid: str = "(-inf, inf)"
    torch: str | None = None
    scheduled: bool = True
    optional: bool | Literal["zero"] = False
    beside: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_named(self)
        ends = re.fullmatch(r"[\[(]\s*([^,]+),([^,]+)[\])]", self.valid)
        try:
            known = ends is not None and float(ends[1]) <= float(ends[2])
        except ValueError:
            known = False
        if not known:
            raise ConfigError(
                self.name, "valid is no interval", expected="such as '[0, inf)'", found=self.valid
            )

    def allows(self, value: float) -> bool:
        """Whether `value` lies in the interval; NaN never does."""
        low, high = (float(end) for end in self.valid[1:-1].split(","))
        above = value >= low if self.valid[0] == "[" else value > low
        below = value <= high if self.valid[-1] == "]" else value < high
        return above and below

    def check(self, who: str, value: Any, group: str = "default") -> None:
        """Raise `ConfigError` unless `value` is a number in the interval (or not known yet)."""
        value = plain(value)
        where = "" if group == "default" else f" of group {group!r}"
        if isinstance(value, jax.core.Tracer):
            if value.shape == () and not jnp.issubdtype(value.dtype, jnp.complexfloating):
                return
            raise ConfigError(
                who,
                f"{self.name}{where} is not a single number",
                expected="a traced number of shape ()",
                found=f"a traced {value.dtype} of shape {value.shape}",
                fix="Make one transform for each number: jax.vmap over the function that does.",
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(
                who,
                f"{self.name}{where} is not a number",
                expected=f"a number in {self.valid}, or a schedule step -> number",
                found=f"{value!r} ({type(value).__name__})",
                fix=self._apart(value),
            )
        if math.isnan(value) or not self.allows(value):
            raise ConfigError(
                who, f"{self.name}{where} is out of range", expected=self.valid, found=repr(value)
            )

    def _apart(self, value: Any) -> str | None:
        if not isinstance(value, tuple) or "[" not in (self.torch or ""):
            return None
        return (
            f"The entries of torch's {(self.torch or '').split('[')[0]} are arguments of their own."
        )


@dataclass(frozen=True)
class Slot:
    """An array (or more) that the rule keeps for every parameter from step to step.

    **Arguments:**

    - `name`: its key in the state, and its name in the rule.
    - `shape`: from the parameter's shape: `"like"` it, `"row"` (last axis 1), `"column"`
      (second last axis 1), `"scalar"`, or a function of the shape and the static options.
    - `init`: the number it starts from, the name of the hyperparameter that gives it, or a
      function of the parameter.
    - `when`: whether it exists, from the static options and, for each hyperparameter, whether
      it is switched on; `None` for always.
    - `fits`: whether a parameter has it, from its shape, or from that and what `when` sees;
      `None` for every parameter. The rule sees only the slots that its leaf has.
    - `torch`: torch's key for it; `None` if torch keeps no such thing.
    - `signed`: whether it can be negative; the 8-bit codec maps signed and unsigned slots apart.
    - `compress`: whether a codec may store it in fewer bits than it is computed in.
    - `scope`: `"leaf"`: one for each parameter; `"group"`: one for all parameters of a group,
      for treewise rules; its shape rule starts from the shape `()`.
    - `dtype`: a fixed dtype, such as `"int32"` for a counter; `None` for the parameter's, in at
      least float32.
    - `entries`: it holds entries of parameters or gradients although its shape is another (a
      history), so that it is complex where they are. Other shapes hold real statistics.
    - `owned`: in matrixwise rules, what is kept where the matrix is whole: `batch` sees it, and
      the rule does not.
    - `turned`: the slot in whose place it comes to `batch` where a matrix is turned over, such as
      that of rows for that of columns; that slot names this one. `None`: it stays in its own.
    """

    name: str
    shape: ShapeRule = "like"
    init: float | str | Callable[[jax.Array], jax.Array] = 0.0
    when: Callable[[Options], bool] | None = None
    fits: Callable[..., bool] | None = None
    torch: str | None = None
    signed: bool = True
    compress: bool = True
    scope: Literal["leaf", "group"] = "leaf"
    dtype: str | None = None
    entries: bool = False
    owned: bool = False
    turned: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_named(self)
        if not (callable(self.shape) or is_one_of(self.shape, "like", "row", "column", "scalar")):
            raise ConfigError(
                self.name,
                "there is no such shape",
                expected="'like', 'row', 'column', 'scalar' or a function",
                found=repr(self.shape)[:100],
            )
        if self.dtype is not None:
            try:
                jnp.dtype(self.dtype)
            except TypeError:
                raise ConfigError(
                    self.name, "dtype is no dtype", expected="such as 'int32'", found=self.dtype
                ) from None

    def held_by(self, shape: Shape, options: Options) -> bool:
        """Whether a parameter of this shape has the slot."""
        if self.fits is None:
            return True
        given = (shape, options) if self._fits_by_options else (shape,)
        return answer(self.name, "fits", self.fits, *given)

    @functools.cached_property
    def _fits_by_options(self) -> bool:
        # Asked once: it is asked of every leaf, and takes longer to find out than to answer.
        return self.fits is not None and takes(self.fits, 2)

    def shape_for(self, shape: Shape, options: Options) -> Shape:
        """The slot's shape for a parameter of this shape."""
        match self.shape:
            case "like":
                return shape
            case "scalar":
                return ()
            case "row":
                return (*shape[:-1], 1)
            case "column":
                return (*shape[:-2], 1, *shape[-1:])
            case rule:
                return self._shape_by(rule, shape, options)

    def axes_for(self, shape: Shape, options: Options) -> Axes:
        """For each axis of the slot, the axis of a parameter of this shape that it runs along."""
        n = len(shape)
        match self.shape:
            case "like":
                return tuple(range(n))
            case "scalar":
                return ()
            case "row":
                return (*range(n)[:-1], None)
            case "column":
                return (*range(n)[:-2], None, *range(n)[-1:])
            case _:
                return _trailing(shape, self.shape_for(shape, options))

    def first(self, p: jax.Array, options: Options, dtype: Any) -> jax.Array:
        """The first value for a parameter, where `init` is a function of it."""
        shape = self.shape_for(tuple(p.shape), options)
        init: Any = self.init
        given = called(self.name, "init", init, p)
        try:
            # A copy: a slot that shared the parameter's buffer could not be donated beside it.
            made = jnp.array(given, dtype, copy=True)
        except NO_ARRAY:
            made = None
        if made is None or made.shape != shape:
            raise ConfigError(
                self.name,
                "init does not give the slot's first value",
                expected=f"an array of shape {shape}",
                found=repr(given)[:100],
            )
        return born(made, placed(p, self.axes_for(tuple(p.shape), options)))

    def _shape_by(self, rule: Callable[..., Any], shape: Shape, options: Options) -> Shape:
        made = called(self.name, "shape", rule, shape, options)
        if not isinstance(made, tuple) or not all(isinstance(n, int) for n in made):
            raise ConfigError(
                self.name,
                "shape gives no shape",
                expected="a tuple of ints",
                found=repr(made)[:100],
            )
        return made


def _trailing(shape: Shape, of: Shape) -> Axes:
    # A statistic over some axes keeps them with length 1, a projection with another length.
    if len(of) == len(shape):
        return tuple(i if m == n else None for i, (m, n) in enumerate(zip(of, shape, strict=True)))
    # A history has the parameter's axes after its own; a statistic of columns has the last one.
    same = 0
    while same < min(len(shape), len(of)) and shape[-1 - same] == of[-1 - same]:
        same += 1
    return (*(None,) * (len(of) - same), *range(len(shape) - same, len(shape)))


def check_named(of: Any) -> None:
    """Raise `ConfigError` for a declaration without a name."""
    if not of.name:
        kind = type(of).__name__
        raise ConfigError(kind, "it has no name", expected="a word, not empty", found=repr(of.name))


def answer(who: str, what: str, function: Callable[..., Any], *given: Any) -> bool:
    """What a condition of a spec says."""
    answer = plain(called(who, what, function, *given))
    if not isinstance(answer, bool | int):
        raise ConfigError(
            who, f"{what} gives neither yes nor no", expected="a bool", found=repr(answer)[:100]
        )
    return bool(answer)
