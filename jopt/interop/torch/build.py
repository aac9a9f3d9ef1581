"""From torch's class name and arguments to the jopt transform."""

from __future__ import annotations

import inspect
import re
from typing import Any

from jopt import optimizers
from jopt.base import ConfigError
from jopt.core import Skips, Transform
from jopt.core.spec import REGISTRY, Spec
from jopt.interop._given import one

# How torch runs a step, not what the step is: XLA decides this for itself.
EXECUTION = frozenset({"foreach", "fused", "capturable", "differentiable"})


def spec_of(torch_name: str) -> Spec:
    """The spec of the jopt optimizer that is torch's class of this name."""
    found = {s.torch: s for s in REGISTRY.values() if s.torch}
    if not isinstance(torch_name, str) or torch_name not in found:
        raise ConfigError(
            "interop.torch",
            f"no optimizer of torch is called {torch_name!r}",
            expected=", ".join(sorted(found)),
        )
    return found[torch_name]


def defaults_of(spec: Spec) -> dict[str, Any]:
    """The default of each argument of the jopt optimizer."""
    parameters = inspect.signature(getattr(optimizers, spec.name)).parameters
    return {name: p.default for name, p in parameters.items()}


def translate(spec: Spec, torch_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Torch's keyword arguments as jopt's, tuples taken apart, execution flags dropped."""
    who, keys = f"torch.optim.{spec.torch}", spec.torch_names
    heads = {re.sub(r"\[\d+\]$", "", key) for key in keys}
    defaults = defaults_of(spec)
    ours: dict[str, Any] = {}
    for key, value in torch_kwargs.items():
        if key in EXECUTION:
            continue
        if key not in heads:
            raise ConfigError(
                who, f"has no argument {key!r} that jopt knows", expected=", ".join(sorted(heads))
            )
        row, length = _entries(value), sum(k.startswith(f"{key}[") for k in keys)
        if key in keys:
            # A static choice may be a tuple, such as ns_coefficients.
            row = row if keys[key] in spec.options else None
            default = defaults[keys[key]]
            length = len(default) if isinstance(default, tuple) else 0
        if length and (row is None or len(row) != length):
            found = repr(value)[: 200 if key in keys else None]
            raise ConfigError(who, f"{key!r} is a tuple", expected=f"{length} numbers", found=found)
        if key not in keys:
            for i, entry in enumerate(row or ()):
                ours[keys[f"{key}[{i}]"]] = one(who, repr(f"{key}[{i}]"), entry)
        elif row is None:
            ours[keys[key]] = one(who, repr(key), value)
        else:
            ours[keys[key]] = tuple(one(who, repr(key), entry) for entry in row)
    return ours


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
    ours = translate(spec, torch_kwargs)
    common = {} if skips is None else {"skips": skips}
    made: Transform = getattr(optimizers, spec.name)(**ours, **common)
    return made
