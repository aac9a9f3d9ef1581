"""What an optimizer declares about itself, once.

From a `Spec` come `init`, validation, storage, sharding, checkpoint keys, torch's keys and
every report. The rule it belongs to says only how the numbers change.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from jopt.base import ConfigError, alike, as_row, called, check_fields, check_kind
from jopt.core.declared import Axes as Axes
from jopt.core.declared import Hyper as Hyper
from jopt.core.declared import Options as Options
from jopt.core.declared import Shape as Shape
from jopt.core.declared import ShapeRule as ShapeRule
from jopt.core.declared import Slot as Slot
from jopt.core.declared import answer, check_named


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
      out without a count of its own. As `counts`, it may depend on the static options.
    - `steps`: its output is the step to add to the parameters: it needs `params`, and a
      parameter without gradient gets a zero step. Otherwise it maps gradients to gradients.
    - `gives`: what the rule returns: `"direction"`: what the learning rate multiplies; `"step"`:
      what is taken off the parameter, with the learning rate in it; `"update"`: what is added to
      the parameter (or, without `steps`, goes on as the gradient). The door does the rest of the
      first two: sign, decay, learning rate.
    - `decay`: where the hyperparameter `weight_decay` enters: `"gradient"` (coupled),
      `"direction"` or `"step"` (decoupled); `"rule"`: where the rule has it, which sees 0 if the
      user chose another place; `None` if the rule alone sees to it, or has none.
    - `complex`: `"pairs"` shows complex leaves to the rule as reals with a last axis of 2, as
      torch does; `"no"` refuses them.
    - `ndim`: the number of axes every parameter must have, or several such; `None` for any.
    - `needs_params`: it needs `params` although it makes no steps.
    - `params_by`: the hyperparameters that bring the parameter's value into the rule. Where all of
      them are 0 or switched off, `update` does without `params`, and the rule sees zeros. `None`:
      it always reads the parameter.
    - `sparse`: `"rows"`: gradients are `BCOO` arrays with whole rows, and the rule sees only
      those rows of the gradient, the slots and the parameter.
    - `elementwise`: an entry of the update and of the slots depends on that entry alone of the
      gradient, the parameter and the slots, and on slots that are one number; such a slot
      depends on no entry. The rule may then run on any piece of a leaf.
    - `reduces`: a leaf's update takes a sum or maximum of what its slots become. A GPU then writes
      slots over the old ones only in a kernel of that leaf alone; its step runs beside others'.
      With `"alone"` the step of a large leaf is in that kernel, too: what the reduction has to
      write down is there for one leaf at a time.
    - `torch`: torch's class name, if torch has it.
    - `unsaid`: static choices that torch lacks, with the value at which a file does not mention
      them: it may be older than they are. `False` needs no word here.
    """

    name: str
    hypers: tuple[Hyper, ...] = ()
    slots: tuple[Slot, ...] = ()
    options: Mapping[str, str | None] = field(default_factory=dict)
    extra: tuple[str, ...] | Callable[[Options], tuple[str, ...]] = ()
    optional: tuple[str, ...] = ()
    counts: bool | Callable[[Options], bool] = False
    ageless: bool | Callable[[Options], bool] = False
    steps: bool = True
    gives: Literal["direction", "step", "update"] = "update"
    decay: Literal["gradient", "direction", "rule", "step"] | None = None
    complex: Literal["pairs", "no"] = "pairs"
    ndim: int | tuple[int, ...] | None = None
    needs_params: bool = False
    params_by: tuple[str, ...] | None = None
    sparse: Literal["no", "rows"] = "no"
    elementwise: bool = False
    reduces: bool | Literal["alone"] = False
    torch: str | None = None
    unsaid: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("hypers", "slots", "extra", "optional"):
            given = getattr(self, name)
            row = given if callable(given) or isinstance(given, str) else as_row(given)
            object.__setattr__(self, name, row)
        check_fields(self)
        check_named(self)
        if not all(isinstance(name, str) for name in self.options):
            raise ConfigError(
                self.name,
                "options are the names of the static choices",
                expected="{name: torch's key, or None}",
                found=repr(self.options)[:100],
            )
        for name, of in (("hypers", Hyper), ("slots", Slot)):
            row = getattr(self, name)
            if not isinstance(row, tuple) or not all(isinstance(x, of) for x in row):
                raise ConfigError(
                    self.name,
                    f"{name} are declarations in a row",
                    expected=f"a tuple of jopt.{of.__name__}",
                    found=repr(row)[:100],
                )
        for slot in self.slots:
            if slot.name in NODE_KEYS:
                raise ConfigError(self.name, f"a slot cannot be called {slot.name!r}")
            if isinstance(slot.init, str) and slot.init not in (
                known := [h.name for h in self.hypers]
            ):
                raise ConfigError(
                    self.name,
                    f"{slot.name} starts from a hyperparameter that there is not",
                    expected=", ".join(known) or "a number",
                    found=slot.init,
                )
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
        if not callable(self.counts):
            return self.counts
        return answer(self.name, "counts", self.counts, options)

    def ageless_under(self, options: Options) -> bool:
        """Whether the rule reads no age under these static options, though it counts."""
        if not callable(self.ageless):
            return self.ageless
        return answer(self.name, "ageless", self.ageless, options)

    def extra_under(self, options: Options) -> tuple[str, ...]:
        """The extra arguments that the rule needs under these static options."""
        if not callable(self.extra):
            return self.extra
        names = as_row(called(self.name, "extra", self.extra, options))
        check_kind(self.name, "what extra gives", "tuple[str, ...]", names)
        return names  # type: ignore[no-any-return]

    def active_slots(self, options: Options) -> tuple[Slot, ...]:
        """The slots that exist under these static options."""
        return tuple(
            s for s in self.slots if s.when is None or answer(s.name, "when", s.when, options)
        )


def _named(module: str, name: str) -> Spec:
    spec: Spec = getattr(importlib.import_module(module), name)
    return spec


SEEN = "monitored"
"""Where a node has what `jopt.monitor(tx)` measured: single numbers by group and name."""

# What a node of state holds beside its slots.
NODE_KEYS = frozenset(
    {
        "count",
        "leaf_count",
        "leaf_micro",
        "hyperparams",
        "times",
        "given",
        "schedules",
        "metrics",
        "inner",
        "owned",
        SEEN,
    }
)

# Every declared Spec by name: how a bare state's label finds its valid ranges.
REGISTRY: dict[str, Spec] = {}
