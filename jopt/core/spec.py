"""What an optimizer declares about itself, once.

From a `Spec` come `init`, validation, storage, sharding, checkpoint keys, torch's keys and
every report. The rule it belongs to says only how the numbers change.
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import jax

from jopt.base import ConfigError, alike, plain, settled

Shape = tuple[int, ...]
Options = Mapping[str, Any]
Axes = tuple[int | None, ...]
ShapeRule = Literal["like", "row", "column", "scalar"] | Callable[[Shape, Options], Shape]


@dataclass(frozen=True)
class Hyper:
    """A numeric hyperparameter: it lives in the state, and may be a schedule.

    **Arguments:**

    - `name`: as the factory and `hyperparams` call it.
    - `valid`: the interval of allowed values, `[` and `]` closed, `(` and `)` open.
    - `torch`: torch's key for it, `"betas[0]"` for an entry of a tuple; `None` if it has none.
    - `scheduled`: whether a schedule may drive it; not if it is read only once.
    - `optional`: whether `None` switches it off, which takes it out of the state.
    """

    name: str
    valid: str = "(-inf, inf)"
    torch: str | None = None
    scheduled: bool = True
    optional: bool = False

    def allows(self, value: float) -> bool:
        """Whether `value` lies in the interval; NaN never does."""
        low, high = (float(end) for end in self.valid[1:-1].split(","))
        above = value >= low if self.valid[0] == "[" else value > low
        below = value <= high if self.valid[-1] == "]" else value < high
        return above and below

    def check(self, who: str, value: Any, group: str = "default") -> None:
        """Raise `ConfigError` unless `value` is a number in the interval (or not known yet)."""
        value = plain(value)
        if isinstance(value, jax.core.Tracer):
            return
        where = "" if group == "default" else f" of group {group!r}"
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
    - `fits`: whether a parameter of this shape has it; `None` for every parameter. The rule
      sees only the slots that its leaf has.
    - `torch`: torch's key for it; `None` if torch keeps no such thing.
    - `signed`: whether it can be negative; the 8-bit codec maps signed and unsigned slots apart.
    - `compress`: whether a codec may store it in fewer bits than it is computed in.
    - `scope`: `"leaf"`: one for each parameter; `"group"`: one for all parameters of a group,
      for treewise rules; its shape rule starts from the shape `()`.
    - `dtype`: a fixed dtype, such as `"int32"` for a counter; `None` for the parameter's, in at
      least float32.
    - `entries`: it holds entries of parameters or gradients although its shape is another (a
      history), so that it is complex where they are. Other shapes hold real statistics.
    """

    name: str
    shape: ShapeRule = "like"
    init: float | str | Callable[[jax.Array], jax.Array] = 0.0
    when: Callable[[Options], bool] | None = None
    fits: Callable[[Shape], bool] | None = None
    torch: str | None = None
    signed: bool = True
    compress: bool = True
    scope: Literal["leaf", "group"] = "leaf"
    dtype: str | None = None
    entries: bool = False

    def held_by(self, shape: Shape) -> bool:
        """Whether a parameter of this shape has the slot."""
        return self.fits is None or self.fits(shape)

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
                return rule(shape, options)


def slot_axes(slot: Slot, shape: Shape, options: Options) -> Axes:
    """For each axis of the slot, the axis of a parameter of this shape that it runs along."""
    n = len(shape)
    match slot.shape:
        case "like":
            return tuple(range(n))
        case "scalar":
            return ()
        case "row":
            return (*range(n)[:-1], None)
        case "column":
            return (*range(n)[:-2], None, *range(n)[-1:])
        case rule:
            return _trailing(shape, rule(shape, options))


def _trailing(shape: Shape, of: Shape) -> Axes:
    # A history has the parameter's axes after its own; a statistic of columns has the last one.
    same = 0
    while same < min(len(shape), len(of)) and shape[-1 - same] == of[-1 - same]:
        same += 1
    return (*(None,) * (len(of) - same), *range(len(shape) - same, len(shape)))


@dataclass(frozen=True, repr=False, eq=False)
class Spec:
    """The declaration of one optimizer or gradient transform.

    **Arguments:**

    - `name`: the public name, and the label of its state in a chain.
    - `hypers`, `slots`: see `Hyper` and `Slot`.
    - `options`: the names of the static choices, with torch's key for each or `None`.
    - `extra`: the extra arguments of `update` that the rule needs (`"value"`, `"key"`, ...); as
      `Slot.when`, it may depend on the static options.
    - `optional`: extra arguments that the rule uses if they are given; else it sees `None`.
    - `counts`: the rule reads `h.t`, the number of this step from 1; as `Slot.when`, it may
      depend on the static options.
    - `ageless`: it counts, for torch does, and the rule does not read `h.t`: a leaf may sit a step
      out without a count of its own.
    - `steps`: its output is the step to add to the parameters: it needs `params`, and a
      parameter without gradient gets a zero step. Otherwise it maps gradients to gradients.
    - `complex`: `"pairs"` shows complex leaves to the rule as reals with a last axis of 2, as
      torch does; `"no"` refuses them.
    - `ndim`: the number of axes every parameter must have; `None` for any.
    - `needs_params`: it needs `params` although it makes no steps.
    - `params_by`: the hyperparameters that bring the parameter's value into the rule. Where all of
      them are 0 or switched off, `update` does without `params`, and the rule sees zeros. `None`:
      it always reads the parameter.
    - `sparse`: `"rows"`: gradients are `BCOO` arrays with whole rows, and the rule sees only
      those rows of the gradient, the slots and the parameter.
    - `elementwise`: an entry of the update and of the slots depends on that entry alone of the
      gradient, the parameter and the slots, and on slots that are one number; such a slot
      depends on no entry. The rule may then run on any piece of a leaf.
    - `torch`: torch's class name, if torch has it.
    """

    name: str
    hypers: tuple[Hyper, ...] = ()
    slots: tuple[Slot, ...] = ()
    options: Mapping[str, str | None] = field(default_factory=dict)
    extra: tuple[str, ...] | Callable[[Options], tuple[str, ...]] = ()
    optional: tuple[str, ...] = ()
    counts: bool | Callable[[Options], bool] = False
    ageless: bool = False
    steps: bool = True
    complex: Literal["pairs", "no"] = "pairs"
    ndim: int | None = None
    needs_params: bool = False
    params_by: tuple[str, ...] | None = None
    sparse: Literal["no", "rows"] = "no"
    elementwise: bool = False
    torch: str | None = None

    def __post_init__(self) -> None:
        for name in ("hypers", "slots", "extra", "optional"):
            object.__setattr__(self, name, settled(getattr(self, name)))
        for slot in self.slots:
            if slot.name in NODE_KEYS:
                raise ConfigError(self.name, f"a slot cannot be called {slot.name!r}")
        REGISTRY.setdefault(self.name, self)
        # The module whose code made it; between are this method and the dataclass's own.
        object.__setattr__(self, "_module", sys._getframe(2).f_globals.get("__name__"))

    def __reduce__(self) -> tuple[Any, ...]:
        # By name where it has one, as functions are: a rule's conditions may be lambdas, which
        # cannot be pickled. Not in `__main__`, which is another module in another process.
        module = self.__dict__["_module"]
        known = vars(sys.modules[module]) if module in sys.modules else {}
        name = next((k for k, v in known.items() if v is self), None)
        if name is None or module == "__main__":
            return Spec, tuple(getattr(self, f.name) for f in fields(self))
        return _named, (module, name)

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Spec) and self._alike == other._alike)

    @functools.cached_property
    def _alike(self) -> Any:
        slots = [[getattr(s, f.name) for f in fields(s)] for s in self.slots]
        rest = {f.name: getattr(self, f.name) for f in fields(self)}
        return alike({**rest, "slots": slots})

    def __repr__(self) -> str:
        return f"<Spec {self.name}>"

    @functools.cached_property
    def by_name(self) -> dict[str, Hyper]:
        """The hyperparameters by name."""
        return {h.name: h for h in self.hypers}

    @functools.cached_property
    def torch_names(self) -> dict[str, str]:
        """Torch's key for each of jopt's arguments, such as `{"lr": "learning_rate"}`."""
        keys = {h.torch: h.name for h in self.hypers if h.torch}
        return keys | {torch: name for name, torch in self.options.items() if torch}

    def counts_under(self, options: Options) -> bool:
        """Whether the rule counts steps under these static options."""
        return self.counts(options) if callable(self.counts) else self.counts

    def extra_under(self, options: Options) -> tuple[str, ...]:
        """The extra arguments that the rule needs under these static options."""
        return self.extra(options) if callable(self.extra) else self.extra

    def active_slots(self, options: Options) -> tuple[Slot, ...]:
        """The slots that exist under these static options."""
        return tuple(s for s in self.slots if s.when is None or s.when(options))


def _named(module: str, name: str) -> Spec:
    spec: Spec = getattr(importlib.import_module(module), name)
    return spec


# What a node of state holds beside its slots.
NODE_KEYS = frozenset(
    {"count", "leaf_count", "leaf_micro", "hyperparams", "given", "schedules", "metrics", "inner"}
)

# Every declared Spec by name: how a bare state's label finds its valid ranges.
REGISTRY: dict[str, Spec] = {}
