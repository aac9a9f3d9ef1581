"""From torch's class name and arguments to the jopt transform."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from jopt import optimizers
from jopt.base import ConfigError
from jopt.core import Skips, Transform
from jopt.core.spec import REGISTRY, Spec
from jopt.interop._given import known, one

# How torch runs a step, not what the step is: XLA decides this for itself.
EXECUTION = frozenset({"foreach", "fused", "capturable", "differentiable"})

# Keys that a class has in its groups although it is no argument of it.
FIXED: Mapping[str, Mapping[str, Any]] = {"AdamW": {"decoupled_weight_decay": True}}


def spec_of(torch_name: str) -> Spec:
    """The spec of the jopt optimizer that is torch's class of this name."""
    found = {s.torch: s for s in REGISTRY.values() if s.torch}
    known("interop.torch", "optimizer", torch_name, sorted(found))
    return found[torch_name]


class Keys:
    """Torch's keys of an optimizer, which its class takes and its groups hold, and jopt's names.

    **Attributes:** `defaults`, of the jopt optimizer's arguments; `names`, the arguments that each
    key of torch's is; `rows`, the keys whose entries are arguments of their own, as of `betas`;
    `fixed`, what groups hold beside; `absent`, what a group may lack, in jopt's names, with the
    value that it then has: flags, which torch's classes have gained over the years and which
    `load_state_dict` adds, and numbers that are off by default, or read at the first step alone;
    `required`, the keys that it always has.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec, self.fixed = spec, FIXED.get(spec.torch or "", {})
        self.who = f"torch.optim.{spec.torch}"
        parameters = inspect.signature(getattr(optimizers, spec.name)).parameters
        self.defaults: dict[str, Any] = {name: p.default for name, p in parameters.items()}
        self.names: dict[str, list[str]] = {}
        for key, name in spec.torch_names.items():
            self.names.setdefault(key.partition("[")[0], []).append(name)
        self.rows = {key.partition("[")[0] for key in spec.torch_names if "[" in key}
        lacking = [n for n, key in spec.options.items() if key and self.defaults[n] is False]
        lacking += [h.name for h in spec.hypers if h.torch and (h.optional or not h.scheduled)]
        self.absent = {name: self.defaults[name] for name in lacking}
        self.required = {k for k, names in self.names.items() if set(names) - self.absent.keys()}

    def ours(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Torch's keyword arguments as jopt's, tuples taken apart, execution flags dropped."""
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key in EXECUTION:
                continue
            if key not in self.names:
                problem = f"has no argument {key!r} that jopt knows"
                raise ConfigError(self.who, problem, expected=", ".join(sorted(self.names)))
            names, split = self.names[key], key in self.rows
            # A static choice may be a tuple, such as ns_coefficients.
            default = self.defaults[names[0]]
            length = len(names) if split else len(default) if isinstance(default, tuple) else 0
            row = _entries(value) if split or names[0] in self.spec.options else None
            if length and (row is None or len(row) != length):
                said, wanted = repr(value)[: None if split else 200], f"{length} numbers"
                raise ConfigError(self.who, f"{key!r} is a tuple", expected=wanted, found=said)
            if row is None:
                found[names[0]] = one(self.who, repr(key), value)
            elif split:
                for i, (name, entry) in enumerate(zip(names, row, strict=True)):
                    found[name] = one(self.who, repr(f"{key}[{i}]"), entry)
            else:
                found[names[0]] = tuple(one(self.who, repr(key), entry) for entry in row)
        return found

    def group(self, chosen: Mapping[str, Any], blank: Mapping[str, Any]) -> dict[str, Any]:
        """The reverse: jopt's numbers and choices, written into a blank group of torch's."""
        group = dict(blank)
        for key, names in self.names.items():
            # What is switched off here has torch's own way to say so in its default.
            on = {n: chosen[n] for n in names if chosen[n] is not None or n in self.spec.options}
            if key in self.rows:
                row = zip(names, group[key], strict=True)
                group[key] = tuple(on.get(name, default) for name, default in row)
            elif on:
                group[key] = on[names[0]]
        return group


keys_of = functools.lru_cache(Keys)
"""The keys of a spec."""


def _entries(value: Any) -> list[Any] | None:
    if isinstance(value, list | tuple):
        return list(value)
    return list(value.tolist()) if hasattr(value, "tolist") and len(value.shape) == 1 else None


def optimizer(name: str, *, skips: Skips = None, **torch_kwargs: Any) -> Transform:
    """The jopt transform that is torch's optimizer `name` with torch's own arguments.

    **Arguments:**

    - `name`: the class name in `torch.optim`, such as `"AdamW"`.
    - `skips`: which leaves may have no gradient at some steps, see `jopt.Common`; torch takes
      `grad=None` anywhere.
    - `**torch_kwargs`: torch's keyword arguments, tuples and all. `foreach`, `fused`,
      `capturable` and `differentiable` say how torch runs a step and are accepted and ignored.

    **Raises:** `ConfigError` for an unknown name or argument, or a value out of range.

    >>> optimizer("AdamW", lr=1e-2, betas=(0.9, 0.95))
    jopt.adamw(learning_rate=0.01, b1=0.9, b2=0.95)
    """
    spec = spec_of(name)
    ours = keys_of(spec).ours(torch_kwargs)
    common = {} if skips is None else {"skips": skips}
    made: Transform = getattr(optimizers, spec.name)(**ours, **common)
    return made
