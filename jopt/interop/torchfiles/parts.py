"""Which entries of a dict of torch's world are optimizers, schedulers and models: by content.

Names differ from project to project, and so does where things stand; what an optimizer's state
dict looks like does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jopt.core.paths import shown
from jopt.interop.torchfiles.flattened import is_optimizer, numbered
from jopt.interop.torchfiles.pickles.placeholder import Placeholder

# What people call the parts, the more usual name first.
_NAMES = {
    "optimizer": "optimizer optimizer_state_dict optimizer_state optim optimizers optimizer_states",
    "scheduler": "scheduler scheduler_state_dict lr_scheduler lr_scheduler_state_dict schedulers "
    "lr_schedulers",
    "model": "model model_state_dict state_dict module params net",
    "step": "global_step step iteration iter iter_num num_updates",
}
_OPTIMIZERS, _SCHEDULERS, _MODELS, _STEPS = (row.split() for row in _NAMES.values())
_DEPTH = 4
"""So many dicts may stand around a part; torch's own trainers use two."""

_NO_MODEL = re.compile(r"rng|random|loader|sampler|scaler|metric|loops|callback", re.IGNORECASE)


@dataclass
class Parts:
    """What was found, each by where it stood, `"app/optim"`."""

    optimizers: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedulers: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    step: int | None = None
    epoch: float | None = None
    keys: set[str] = field(default_factory=set)

    def params(self) -> dict[str, Any] | None:
        """The model that is called so, or the only one there is."""
        last = {label.rpartition("/")[2]: label for label in reversed(self.models)}
        known = next((last[name] for name in _MODELS if name in last), None)
        if known is None and len(self.models) == 1:
            [known] = self.models
        return None if known is None else self.models[known]

    def model_of(self, label: str) -> dict[str, Any] | None:
        """The model that an optimizer trains, if its label tells: `models/gen` of `optimizers/gen`.

        An only model is that of every optimizer.
        """
        if len(self.models) == 1:
            return self.params()
        own = _word(label)
        equal = [m for m in self.models if _word(m) == own]
        near = [m for m in self.models if own and _word(m).startswith(own)]
        for rows in (equal, near):
            if len(rows) == 1:
                return self.models[rows[0]]
        return None


def _word(label: str) -> str:
    """What tells two parts of one kind from another: `gen`, `g`, `1`."""
    plain = re.sub(r"(?i)optimizers?|optim|opt(?=_|$)|models?|nets?|state|dict|module", "", label)
    return re.sub(r"[^a-z0-9]+", "", plain.lower())


def find(tree: Any) -> Parts:
    """The parts of a run in a tree that was read from a file."""
    found = Parts()
    if isinstance(tree, list | tuple):
        tree = {str(i): row for i, row in enumerate(tree)}
    root = items(tree)
    if root is None:
        return found
    found.keys = {str(k) for k in root}
    if not _take(found, "", root):
        _search(found, root, (), _DEPTH)
    if not found.optimizers:
        # Something is called an optimizer, and is none: say what is wrong with it.
        for name in _OPTIMIZERS:
            if isinstance(own := root.get(name), Mapping):
                found.optimizers[name] = numbered(own)
                break
    return found


def items(value: Any) -> Mapping[Any, Any] | None:
    """The dict that a value is, or that it is a kind of, or the state dict of a whole model."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Placeholder):
        return value.items or (dict(_weights(value, "", set())) or None)
    return None


def _weights(module: Placeholder, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """As `model.state_dict()` has them, of a model that was saved as an object."""
    state = module.state
    if not isinstance(state, dict) or "_modules" not in state or id(module) in seen:
        return
    seen = seen | {id(module)}
    passing = state.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in (items(state.get(kind)) or {}).items():
            if hasattr(value, "detach") and not (kind == "_buffers" and name in passing):
                yield f"{prefix}{name}", value
    for name, child in (items(state["_modules"]) or {}).items():
        if isinstance(child, Placeholder):
            yield from _weights(child, f"{prefix}{name}.", seen)


def _search(found: Parts, node: Mapping[Any, Any], path: tuple[str, ...], depth: int) -> None:
    for name in _STEPS:
        if found.step is None and counts(node.get(name)):
            found.step = int(node[name])
    if found.epoch is None and counts(node.get("epoch")):
        epoch = node["epoch"]
        found.epoch = epoch.item() if hasattr(epoch, "item") else epoch
    inner = []
    # The more usual names first; among the others the order of the file.
    usual = [*_OPTIMIZERS, *_SCHEDULERS, *_MODELS]
    ranks = {name: n for n, name in enumerate(usual)}
    for key in sorted(node, key=lambda k: ranks.get(str(k), len(ranks))):
        value, at = node[key], (*path, str(key))
        rows = value if isinstance(value, list | tuple) else None
        for label, one in (
            [(shown(at), value)]
            if rows is None
            else [(shown((*at, str(i))), row) for i, row in enumerate(rows[:1000])]
        ):
            own = items(one)
            if own and not _take(found, label, own):
                inner.append((own, tuple(label.split("/"))))
    for own, at in inner if depth > 1 else ():
        _search(found, own, at, depth - 1)


def _take(found: Parts, label: str, node: Mapping[Any, Any]) -> bool:
    name = label.rpartition("/")[2]
    if (optimizer := _optimizer(node)) is not None:
        found.optimizers[label or "optimizer"] = numbered(optimizer)
    elif _is_scheduler(node) or (name in _SCHEDULERS and not _holds(node)):
        found.schedulers[label or "scheduler"] = {str(k): v for k, v in node.items()}
    elif (_is_model(node) and not _NO_MODEL.search(label)) or (
        name in _MODELS and not _holds(node) and any(_is_tensor(v) for v in node.values())
    ):
        found.models[label or "model"] = dict(node)
    else:
        return False
    return True


def _holds(node: Mapping[Any, Any]) -> bool:
    """Whether state dicts stand within, and so it is none itself."""
    return any(
        (own := items(value))
        and (_optimizer(own) is not None or _is_scheduler(own) or _is_model(own))
        for row in node.values()
        for value in (row if isinstance(row, list | tuple) else [row])
    )


def _optimizer(node: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
    """The dict, if it is an optimizer's, with a state where that was empty and left out."""
    if "param_groups" in node:
        whole = {"state": {}, **node}
        return whole if is_optimizer(whole) or set(node) == {"state", "param_groups"} else None
    flat = any(str(k).startswith("param_groups.") for k in node)
    return node if flat else None


def _is_scheduler(node: Mapping[Any, Any]) -> bool:
    known = {"_step_count", "_last_lr", "base_lrs", "num_bad_epochs", "_milestones"}
    return ("last_epoch" in node and bool(known & set(node))) or (
        "_schedulers" in node and isinstance(node["_schedulers"], list | tuple)
    )


def _is_model(node: Mapping[Any, Any]) -> bool:
    """Names of tensors, some with numbers that can be trained."""
    values = list(node.values())
    return (
        bool(values)
        and all(isinstance(k, str) for k in node)
        and all(_is_tensor(v) for v in values)
        and any(v.ndim and "float" in str(v.dtype) for v in values)
    )


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "ndim")


def counts(value: Any) -> bool:
    """Whether a value says how far a run was."""
    if math.prod(getattr(value, "shape", (0,))) == 1:
        value = value.item()
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def chosen(labels: Sequence[str], which: str | int) -> list[int]:
    """The places of the labels that `which` can mean: as a whole, or by its end or its beginning.

    >>> chosen(["optimizers/gen", "optimizers/disc"], "gen")
    [0]
    """
    if isinstance(which, int):
        return [which] if -len(labels) <= which < len(labels) else []
    rows = (
        [i for i, label in enumerate(labels) if label == which],
        [i for i, label in enumerate(labels) if label.endswith(f"/{which}")],
        [i for i, label in enumerate(labels) if label.startswith(f"{which}/")],
    )
    return next((row for row in rows if row), [])
