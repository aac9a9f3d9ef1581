"""Files and folders of torch's world: what is in them, in the form that the importers take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jopt.base import CheckpointError
from jopt.interop._given import pattern, words, wrong
from jopt.interop.torchfiles.files import is_distributed, read_folder, read_tensors
from jopt.interop.torchfiles.huggingface import huggingface_groups
from jopt.interop.torchfiles.parts import chosen, find, items
from jopt.interop.torchfiles.pickles.placeholder import Placeholder

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
    - `labels`: where each optimizer stood, such as `"app/optim"`.
    - `models`: every state dict of a model, by where it stood; with several of them `params` is
      the one that is called so.
    - `left_out`: files of the folder that look like tensors, and were not read.
    """

    optimizers: list[dict[str, Any]] = field(default_factory=list, repr=False)
    schedulers: list[dict[str, Any]] = field(default_factory=list, repr=False)
    params: dict[str, Any] | None = field(default=None, repr=False)
    step: int | None = None
    epoch: float | None = None
    layout: str = "dict"
    labels: list[str] = field(default_factory=list, repr=False)
    models: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    left_out: list[str] = field(default_factory=list, repr=False)

    @property
    def param_names(self) -> list[list[str] | None]:
        """For each optimizer the names of its parameters in torch's order; `None` if unknown."""
        return [names_of(optimizer) for optimizer in self.optimizers]


def read_checkpoint(
    source: Any,
    *,
    names: Sequence[str] | None = None,
    norms: str | None = None,
    which: str | int | None = None,
) -> TorchRun:
    """The optimizers, schedulers and parameters in a file, a folder or a dict of torch's world.

    - A folder of the Hugging Face Trainer, or of accelerate: `optimizer.pt` (or `.bin`; several
      are `optimizer_1`, `optimizer_2`, ... in this order), `scheduler.pt`, `trainer_state.json`,
      `model.safetensors` or `pytorch_model.bin`, whole or in several files with an index.
    - A folder of `torch.distributed.checkpoint`, and folders that have some inside.
    - A checkpoint of Lightning: `optimizer_states`, `lr_schedulers`, `state_dict`.
    - What `torch.distributed.checkpoint.state_dict` gives for an optimizer: names in place of
      numbers, flattened (`state.<name>.<key>`) or not.
    - A file or a dict such as `{"model": ..., "optimizer": ..., "scheduler": ..., "step": ...}`,
      whatever the keys are and how deep they stand (`{"app": {"model": ..., "optim": ...}}`,
      `{"optimizers": {"gen": ..., "disc": ...}}`): optimizers, schedulers and models are known by
      what is in them. Or one optimizer's, scheduler's or model's state dict.

    Files are read by a reader that builds plain data (tensors, arrays of NumPy, numbers, text,
    containers of them) and nothing else: an object of any other class is a `Placeholder`, which
    shows the name of the class. No code in a file is run, and no class is imported.

    **Arguments:**

    - `source`: a path, or what was read already.
    - `names`: of the trained parameters, in the order of `model.named_parameters()`. Optimizers
      number them, and most files do not say how. With a folder of the Trainer they are put in
      the order of its two groups, see `huggingface_groups`, which `norms` is for. Without
      `names`, those of a model's state dict are taken if the shapes of the optimizer's buffers
      are theirs, one by one, if no two groups share a shape, and if the file keeps their order
      (safetensors does not).
    - `which`: the optimizer to take, if there are several: its label or the end of it, `"gen"`, or
      its place.

    **Raises:** `CheckpointError` for a file that is missing, damaged, or in which nothing is
    known; and for `names` or `which` that do not fit.

    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7}
    >>> read_checkpoint(parts, names=["weight", "bias"])
    TorchRun(step=7, epoch=None, layout='dict')
    >>> read_checkpoint(parts, names=["weight", "bias"]).param_names
    [['weight', 'bias']]
    """
    if names is not None:
        names = words("read_checkpoint", "names", names)
    if norms is not None:
        pattern("read_checkpoint", "norms", norms)
    if which is not None and (isinstance(which, bool) or not isinstance(which, str | int)):
        raise wrong("read_checkpoint", "which", "a label or a place", "a str or an int", which)
    huggingface, ordered, left = False, True, list[str]()
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            parts, ordered, left = read_folder(path)
            layout = "distributed" if is_distributed(path) else "dict"
        else:
            parts, layout = read_tensors(path), "dict"
            ordered = path.suffix != ".safetensors"
        huggingface = (path / "trainer_state.json").is_file()
    else:
        parts, layout = source, "dict"
    found = find(parts)
    labels, optimizers = list(found.optimizers), list(found.optimizers.values())
    if which is not None:
        places = chosen(labels, which)
        if len(places) != 1:
            raise CheckpointError(
                "read_checkpoint",
                "which= chooses one optimizer",
                expected=", ".join(labels) or "an optimizer, and there is none",
                found=repr(which),
            )
        labels, optimizers = [labels[places[0]]], [optimizers[places[0]]]
    params = found.params()
    if not (optimizers or found.schedulers or found.models):
        raise _unknown(source, parts, left)
    if names is not None and len(optimizers) != 1:
        raise CheckpointError(
            "read_checkpoint",
            "names= are those of one optimizer",
            found=f"{len(optimizers)} optimizers: {', '.join(labels)}" if labels else "none",
            fix=f"Choose one: which={labels[0]!r}." if labels else None,
        )
    if names is not None:
        rows = huggingface_groups(names, norms) if huggingface else (list(names),)
        optimizers = [_called(optimizers[0], [n for row in rows for n in row])]
        if huggingface:
            _check_groups(optimizers[0], [len(row) for row in rows])
    elif ordered:
        pairs = zip(labels, optimizers, strict=True)
        optimizers = [_guessed(o, found.model_of(label)) for label, o in pairs]
    if huggingface:
        layout = "huggingface"
    elif any("lightning_version" in key for key in found.keys):
        layout = "lightning"
    return TorchRun(
        optimizers=optimizers,
        schedulers=list(found.schedulers.values()),
        params=params,
        step=found.step,
        epoch=found.epoch,
        layout=layout,
        labels=labels,
        models=found.models,
        left_out=left,
    )


def names_of(optimizer: Mapping[str, Any]) -> list[str] | None:
    """The names in all groups of an optimizer's state dict, in order; `None` if one has none."""
    rows = [group.get("param_names") for group in optimizer["param_groups"]]
    return None if None in rows else [str(n) for row in rows for n in row or ()]


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


def _guessed(optimizer: dict[str, Any], params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The optimizer with the model's names, if its buffers have the shapes of the parameters.

    Groups have another order than the model. Where one shape is in two of them, shapes cannot
    tell which parameter is whose, and nothing is guessed.
    """
    if params is None:
        return optimizer
    names = [n for n in params if n.rpartition(".")[2] not in _BUFFERS]
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


def _unknown(source: Any, parts: Any, left: Sequence[str]) -> CheckpointError:
    named = isinstance(source, str | os.PathLike)
    own = items(parts)
    keys = type(parts).__name__
    if own is not None:
        rows = {str(k): f" {v!r}" if isinstance(v, Placeholder) else "" for k, v in own.items()}
        keys = ", ".join(f"{k}{rows[k]}" for k in sorted(rows)[:12])
    return CheckpointError(
        "read_checkpoint",
        "there is nothing here that jopt knows",
        path=str(source) if named else None,
        expected="an optimizer, a scheduler or a model, such as "
        '{"model": ..., "optimizer": ..., "scheduler": ..., "step": ...}',
        found=keys or ", ".join(left) or "nothing",
        fix="Name one of its files: a folder may hold several runs."
        if left and not keys
        else "Take the parts out yourself: the importers take torch's own state dicts.",
    )
