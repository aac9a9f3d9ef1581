"""Files and folders of torch's world: what is in them, in the form that the importers take."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jopt.base import CheckpointError
from jopt.interop.torch.files import read_folder, read_torch
from jopt.interop.torch.flattened import numbered
from jopt.interop.torch.huggingface import huggingface_groups

# What people call the parts, the more usual name first.
_NAMES = {
    "optimizer": "optimizer optimizer_state_dict optimizer_state optim optimizers optimizer_states",
    "scheduler": "scheduler scheduler_state_dict lr_scheduler lr_scheduler_state_dict schedulers "
    "lr_schedulers",
    "model": "model model_state_dict state_dict module params net",
    "step": "global_step step iteration iter iter_num num_updates",
}
_OPTIMIZERS, _SCHEDULERS, _MODELS, _STEPS = (row.split() for row in _NAMES.values())
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class TorchRun:
    """What was found in a file or a folder of torch's world.

    **Attributes:**

    - `optimizers`: a state dict for each optimizer, for `import_optimizer`. Where the names of
      its parameters are known, each group has them as `"param_names"`.
    - `schedulers`: a state dict for each, for `import_scheduler`.
    - `params`: the model's state dict, for `import_params`; `None` if there is none.
    - `step`, `epoch`: how far the run was; `None` if nothing says it.
    - `layout`: what it was taken for.
    """

    optimizers: list[dict[str, Any]] = field(default_factory=list, repr=False)
    schedulers: list[dict[str, Any]] = field(default_factory=list, repr=False)
    params: dict[str, Any] | None = field(default=None, repr=False)
    step: int | None = None
    epoch: float | None = None
    layout: str = "dict"

    @property
    def param_names(self) -> list[list[str] | None]:
        """For each optimizer the names of its parameters in torch's order; `None` if unknown."""
        return [names_of(optimizer) for optimizer in self.optimizers]


def read_checkpoint(
    source: Any, *, names: Sequence[str] | None = None, norms: str | None = None
) -> TorchRun:
    """The optimizers, schedulers and parameters in a file, a folder or a dict of torch's world.

    - A folder of the Hugging Face Trainer, or of accelerate: `optimizer.pt` (or `.bin`),
      `scheduler.pt`, `trainer_state.json`, `model.safetensors` or `pytorch_model.bin`.
    - A checkpoint of Lightning: `optimizer_states`, `lr_schedulers`, `state_dict`.
    - What `torch.distributed.checkpoint.state_dict` gives for an optimizer: names in place of
      numbers, flattened (`state.<name>.<key>`) or not.
    - A file or a dict such as `{"model": ..., "optimizer": ..., "scheduler": ..., "step": ...}`,
      or one optimizer's state dict.

    Files are read with `weights_only=True`: nothing in them is run.

    **Arguments:**

    - `source`: a path, or what was read already.
    - `names`: of the trained parameters, in the order of `model.named_parameters()`. Optimizers
      number them, and most files do not say how. With a folder of the Trainer they are put in
      the order of its two groups, see `huggingface_groups`, which `norms` is for. Without
      `names`, those of a model's state dict are taken if the shapes of the optimizer's buffers
      are theirs, one by one, if no two groups share a shape, and if the file keeps their order
      (safetensors does not).

    **Raises:** `CheckpointError` for a file that is missing, that torch can read only by running
    code, or in which nothing is known; and for `names` that do not fit.

    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7}
    >>> read_checkpoint(parts, names=["weight", "bias"])
    TorchRun(step=7, epoch=None, layout='dict')
    >>> read_checkpoint(parts, names=["weight", "bias"]).param_names
    [['weight', 'bias']]
    """
    huggingface, ordered = False, True
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        parts, ordered = read_folder(path) if path.is_dir() else (read_torch(path), True)
        huggingface = (path / "trainer_state.json").is_file()
    else:
        parts = source
    if not isinstance(parts, Mapping):
        raise _unknown(source, type(parts).__name__)
    optimizers = [numbered(o) for o in _several(parts, _OPTIMIZERS)]
    if not optimizers and (own := _alone(parts)) is not None:
        optimizers = [numbered(own)]
    schedulers = [dict(s) for s in _several(parts, _SCHEDULERS)]
    params = next((dict(parts[k]) for k in _MODELS if isinstance(parts.get(k), Mapping)), None)
    if parts and all(hasattr(value, "detach") for value in parts.values()):
        params = dict(parts)
    if not optimizers and not schedulers and params is None:
        raise _unknown(source, ", ".join(sorted(map(str, parts))[:12]) or "nothing")
    if names is not None and len(optimizers) != 1:
        raise CheckpointError(
            "read_checkpoint",
            "names= are those of one optimizer",
            found=f"{len(optimizers)} optimizers",
            fix="Give names to import_optimizer, for each.",
        )
    if names is not None:
        rows = huggingface_groups(names, norms) if huggingface else (list(names),)
        optimizers = [_called(optimizers[0], [n for row in rows for n in row])]
        if huggingface:
            _check_groups(optimizers[0], [len(row) for row in rows])
    elif params is not None and ordered:
        known = [n for n in params if n.rpartition(".")[2] not in _BUFFERS]
        optimizers = [_guessed(o, known, params) for o in optimizers]
    step = next((int(parts[k]) for k in _STEPS if _counts(parts.get(k))), None)
    epoch: Any = parts.get("epoch")
    epoch = epoch.item() if _counts(epoch) and hasattr(epoch, "item") else epoch
    layout = "huggingface" if huggingface else "dict"
    if any("lightning_version" in str(key) for key in parts):
        layout = "lightning"
    return TorchRun(optimizers, schedulers, params, step, epoch if _counts(epoch) else None, layout)


def names_of(optimizer: Mapping[str, Any]) -> list[str] | None:
    """The names in all groups of an optimizer's state dict, in order; `None` if one has none."""
    rows = [group.get("param_names") for group in optimizer["param_groups"]]
    return None if None in rows else [str(n) for row in rows for n in row or ()]


def _several(parts: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
    for key in keys:
        value = parts.get(key)
        if isinstance(value, Mapping):
            return [value]
        if isinstance(value, list | tuple) and all(isinstance(v, Mapping) for v in value):
            return list(value)
    return []


def _alone(parts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The dict itself, if it is an optimizer's."""
    flat = any(str(k).startswith("param_groups.") for k in parts)
    return parts if flat or {"state", "param_groups"} <= set(parts) else None


def _counts(value: Any) -> bool:
    if hasattr(value, "numel") and value.numel() == 1:
        value = value.item()
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _called(optimizer: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """An optimizer's state dict with these names for its parameters, in order."""
    groups, start = [], 0
    total = sum(len(group["params"]) for group in optimizer["param_groups"])
    if total != len(names):
        raise CheckpointError(
            "read_checkpoint",
            "names= are not the optimizer's parameters",
            expected=f"{total} names",
            found=f"{len(names)}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}",
        )
    for group in optimizer["param_groups"]:
        stop = start + len(group["params"])
        groups.append({**group, "param_names": list(names[start:stop])})
        start = stop
    return {**optimizer, "param_groups": groups}


def _check_groups(optimizer: Mapping[str, Any], sizes: Sequence[int]) -> None:
    found = [len(group["params"]) for group in optimizer["param_groups"]]
    if found != [n for n in sizes if n]:
        raise CheckpointError(
            "read_checkpoint",
            "the Trainer has divided the parameters into other groups than their names say",
            expected=f"{' and '.join(map(str, found))} parameters",
            found=f"{' and '.join(map(str, sizes))}",
            fix="If norms have other names, say so: norms=. Else order names yourself, and give "
            "them to import_optimizer.",
        )


def _guessed(
    optimizer: dict[str, Any], names: Sequence[str], params: Mapping[str, Any]
) -> dict[str, Any]:
    """The optimizer with the model's names, if its buffers have the shapes of the parameters.

    Groups have another order than the model. Where one shape is in two of them, shapes cannot
    tell which parameter is whose, and nothing is guessed.
    """
    ids = [(g, i) for g, group in enumerate(optimizer["param_groups"]) for i in group["params"]]
    if names_of(optimizer) is not None or len(ids) != len(names):
        return optimizer
    group_of: dict[tuple[int, ...], int] = {}
    for (g, i), name in zip(ids, names, strict=True):
        own = tuple(getattr(params[name], "shape", ()))
        shapes = {tuple(getattr(v, "shape", ())) for v in optimizer["state"].get(i, {}).values()}
        if (shapes - {()} and own not in shapes) or group_of.setdefault(own, g) != g:
            return optimizer
    return _called(optimizer, names) if optimizer["state"] else optimizer


def _unknown(source: Any, found: str) -> CheckpointError:
    named = isinstance(source, str | os.PathLike)
    return CheckpointError(
        "read_checkpoint",
        "there is nothing here that jopt knows",
        path=str(source) if named else None,
        expected="an optimizer, a scheduler or a model, such as "
        '{"model": ..., "optimizer": ..., "scheduler": ..., "step": ...}',
        found=found,
        fix="Take the parts out yourself: the importers take torch's own state dicts.",
    )
