"""One record for a class of torch's schedulers, read in three directions by one driver."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from jopt.base import ConfigError, doubles, plain
from jopt.interop.torch.schedulers.saved import Saved
from jopt.schedules import Plateau

ANNEALS = {"cos": "cosine"}
"""Torch's words for how a rate goes over, where jopt has others."""


@dataclass(frozen=True)
class Named:
    """A scheduler of torch's: class, base rate, arguments, and the pace at which it steps.

    **Attributes:** `schedulers` in `arguments` is a list of these.
    """

    name: str
    base: float
    arguments: dict[str, Any]
    every: int = 1
    shift: int = 0


Arguments = dict[str, Any]
Tell = Callable[[str, Mapping[str, Any], Any, Any], Named]


class Within(NamedTuple):
    """What a class does with the schedulers within it.

    **Attributes:** `build(lr, **kwargs)`: the schedule, by torch's arguments; `tell(name, config,
    schedule, wanted)`: torch's scheduler that a schedule is; `read(saved)`: the schedule of a
    state dict, and the step at which it stands.
    """

    build: Callable[..., Any]
    tell: Tell
    read: Callable[[Saved], tuple[Any, Any]]


@dataclass(frozen=True)
class Kind:
    """A class of torch's schedulers, beside the factory of jopt's schedules that it is.

    **Attributes:**

    - `factory`, and `momentum`: that of what it does to the momentum.
    - `takes`: torch's arguments in torch's order, each with jopt's name for it: `"T_max=steps"`;
      `"epochs="` if jopt has none.
    - `defaults`: torch's, where they are not those of the factory.
    - `state`: the keys that a state dict always has, if those are not the arguments; `beside`:
      those of some versions of torch; `given`: what `import_scheduler` is told beside them.
    - `multiplies`: whether it multiplies the rate that it finds; the others overwrite it.
    - `child`: whether it has its own start, from the base rate, within a sequence.
    - `make(lr, a)`: torch's arguments, checked, with the values that jopt's have.
    - `tell(found, config, schedule, wanted)`: what is found by the names alone, put right.
    - `read(saved)`: the arguments in a state dict; `stands(saved)`, at which step it stands;
      `began(saved, arguments, step)`, the rate from which it began.
    - `within`: of a class that holds others, in place of all these.
    """

    factory: Any = None
    takes: str = ""
    momentum: Any = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    beside: str = ""
    given: str = ""
    multiplies: bool = False
    child: bool = True
    make: Callable[[Any, Arguments], Arguments] = lambda lr, a: a
    tell: Callable[[Named, Mapping[str, Any], Any, Any], Named] = lambda found, *_: found
    read: Callable[[Saved], Arguments] | None = None
    stands: Callable[[Saved], Any] = lambda saved: saved.number("last_epoch")
    began: Callable[[Saved, Arguments, Any], float] = lambda saved, *_: saved.base()
    within: Within | None = None

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """Jopt's names by torch's, empty ones where there is none."""
        rows = (word.partition("=") for word in self.takes.split())
        return {torch: ours if given else torch for torch, given, ours in rows}

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The default of each of torch's arguments; `inspect.Parameter.empty` for none."""
        own = inspect.signature(self.factory).parameters if self.factory else {}
        known = {
            t: own[o].default if o in own else inspect.Parameter.empty
            for t, o in self.names.items()
        }
        return {**known, **self.defaults}

    @property
    def keys(self) -> set[str]:
        """What its state dict always has of its own."""
        return set((self.state or " ".join(self.names)).split())

    @property
    def younger(self) -> set[str]:
        """What its state dict has of its own in some versions of torch."""
        return set(self.beside.split())

    def built(self, lr: Any, kwargs: Arguments) -> Any:
        """Jopt's schedule, or that of the rate and that of the momentum."""
        a = self.make(lr, {**self.parameters, **kwargs})
        ours = {o: a[t] for t, o in self.names.items() if o}
        rate = self.factory(**{_first(self.factory): lr, **ours})
        if self.momentum is None:
            return rate
        shape = {k: v for k, v in ours.items() if k in inspect.signature(self.momentum).parameters}
        ends = {"base_value": a["base_momentum"], "max_value": a["max_momentum"]}
        return rate, self.momentum(**{**shape, **ends})

    def told(self, name: str, config: Mapping[str, Any], schedule: Any, wanted: Any) -> Named:
        """Torch's scheduler that a schedule of the factory is, by the arguments of the schedule."""
        arguments = {t: _value(config[o]) for t, o in self.names.items() if o in config}
        found = Named(name, config[_first(self.factory)], arguments)
        return self.tell(found, config, schedule, wanted)

    def arguments(self, saved: Saved) -> Arguments:
        """Torch's arguments by a state dict of its."""
        if self.read is not None:
            return self.read(saved)
        return {key: saved.number(key) for key in self.names}


KINDS: dict[str, Kind] = {}
"""The record of every class, by its name; `kinds` fills it."""

ALONE = "a plateau needs a metric at each step and cannot be one of several"


def _first(factory: Any) -> str:
    return next(iter(inspect.signature(factory).parameters))


def _value(value: Any) -> Any:
    words = {ours: torch for torch, ours in ANNEALS.items()}
    if isinstance(value, str):
        return words.get(value, value)
    return list(value) if isinstance(value, tuple) else plain(value)


def nothing(problem: str, schedule: Any) -> ConfigError:
    """The error of a schedule that torch has no scheduler for."""
    fix = "as_lambda=True makes a LambdaLR that calls it."
    plateau = isinstance(schedule, Plateau)
    return ConfigError(
        "export_scheduler", problem, found=repr(schedule), fix=None if plateau else fix
    )


def within(who: str, name: str, value: Any, valid: str, allowed: bool) -> None:
    """Raise `ConfigError` for an argument that torch refuses."""
    if not allowed:
        raise ConfigError(f"torch.{who}", f"{name} is out of range", expected=valid, found=value)


def python(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of jax arrays as one of Python numbers, which is what torch saves."""
    return lambda t: plain(f(t))


def exactly(curve: Any, step: Any) -> float:
    """A value in float64."""
    # Inside of a trace, too: all of this is known on the host.
    with doubles(), jax.ensure_compile_time_eval():
        return float(curve(step))
