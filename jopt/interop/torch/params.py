"""The parameters themselves, from torch and to torch, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jopt.base import CheckpointError, ConfigError
from jopt.checkpoint.fetching import host
from jopt.checkpoint.placing import placed
from jopt.core.paths import Path
from jopt.core.tree import Tree, layout_of
from jopt.interop._given import flag, parameters, pattern, table
from jopt.interop.torch.flax import flax_weights
from jopt.interop.torch.tensors import to_numpy, to_torch
from jopt.interop.torch.weights import Weight, each_layer, weights_by_path

Names = Mapping[str, Weight | str]


def import_params(
    like: Tree,
    state_dict: Mapping[str, Any],
    names: Names | None = None,
    *,
    cast: bool = False,
    ignore: str | None = r"(^|\.)num_batches_tracked$",
) -> Tree:
    """The parameters of a torch model in the containers of `like`.

    **Arguments:**

    - `like`: the parameters of the jax model, or their `jax.eval_shape`: it says which leaves
      there are, their shapes, dtypes and shardings.
    - `state_dict`: `model.state_dict()`: tensors, or NumPy arrays, by name.
    - `names`: torch's name of each leaf by its path, `{"fc/kernel": Weight("fc.weight", (1, 0)),
      "fc/bias": "fc.bias"}`; `None` for what `flax_weights(like)` makes of a flax model.
    - `cast`: whether a tensor of another dtype is converted; else it is an error.
    - `ignore`: a regular expression: tensors whose name it matches may be left over. By default
      the counters of BatchNorm layers, which flax has not. `None`: nothing may be left over.

    **Raises:** `CheckpointError` that lists every difference: tensors missing, left over, of
    another shape or dtype. `ConfigError` for `names` that do not fit `like`.

    >>> import jax.numpy as jnp, numpy as np
    >>> like = {"fc": {"kernel": jnp.zeros((2, 3))}}
    >>> import_params(like, {"fc.weight": np.ones((3, 2), np.float32)})["fc"]["kernel"].shape
    (2, 3)
    >>> import_params(like, {"fc.weight": np.ones((4, 2), np.float32), "fc.bias": np.ones(3)})
    Traceback (most recent call last):
      ...
    jopt.base.errors.CheckpointError: import_params: torch's tensors do not fit: 2 differences
      shape       fc.weight: expected (3, 2) for fc/kernel, found (4, 2)
      left over   fc.bias: no parameter has this name
      Nothing was imported.
    """
    who = "import_params"
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            who,
            "this is no state dict",
            expected="model.state_dict()",
            found=type(state_dict).__name__,
        )
    layout, targets = layout_of(who, like), parameters(who, like)
    flag(who, "cast", cast)
    if ignore is not None:
        pattern(who, "ignore", ignore)
    table(who, "state_dict", state_dict, "model.state_dict()")
    weights = by_path(who, layout.names, flax_weights(like) if names is None else names)
    lines: list[str] = []
    values: list[tuple[Path, Any]] = []
    known: set[str] = set()
    for keys, path, target in zip(layout.paths, layout.names, targets, strict=True):
        shape, dtype = tuple(target.shape), np.dtype(target.dtype)
        each = each_layer(weights[path], shape)
        one = shape[weights[path].layers :]
        layers = []
        for _, weight in each:
            known.add(weight.name)
            want = weight.shape(who, path, one)
            if weight.name not in state_dict:
                lines.append(f"missing     {weight.name}: expected {dtype} {want} for {path}")
                continue
            value = to_numpy(who, weight.name, state_dict[weight.name])
            if value.shape != want:
                found = f"expected {want} for {path}, found {value.shape}"
                lines.append(f"shape       {weight.name}: {found}")
            elif value.dtype != dtype and not cast:
                found = f"expected {dtype} for {path}, found {value.dtype}"
                lines.append(f"dtype       {weight.name}: {found}")
            else:
                layers.append(np.array(weight.here(value), dtype, order="C"))
        if len(layers) == len(each):
            together = np.stack(layers).reshape(shape) if layers else np.zeros(shape, dtype)
            values.append((keys, together))
    for name in state_dict:
        if name not in known and not (ignore is not None and re.search(ignore, name)):
            lines.append(f"left over   {name}: no parameter has this name")
    if lines:
        count = "1 difference" if len(lines) == 1 else f"{len(lines)} differences"
        advice = " cast=True converts dtypes." if any(x.startswith("dtype") for x in lines) else ""
        raise CheckpointError(
            who,
            "\n  ".join([f"torch's tensors do not fit: {count}", *lines]),
            fix=f"Nothing was imported.{advice}",
        )
    leaves = dict(placed(who, values, dict(zip(layout.paths, targets, strict=True))))
    return layout.treedef.unflatten([leaves[keys] for keys in layout.paths])


def export_params(params: Tree, names: Names | None = None) -> dict[str, Any]:
    """A dict of tensors that `model.load_state_dict` takes; the reverse of `import_params`.

    **Arguments:** `params` of the jax model; `names` as in `import_params`. The tensors are on
    the CPU, in the dtypes of `params`, and share no memory with them.

    >>> import jax.numpy as jnp
    >>> export_params({"fc": {"kernel": jnp.ones((1, 2))}})
    {'fc.weight': tensor([[1.],
            [1.]])}
    """
    who = "export_params"
    layout, values = layout_of(who, params), parameters(who, params)
    weights = by_path(who, layout.names, flax_weights(params) if names is None else names)
    tensors = {}
    for keys, path, leaf in zip(layout.paths, layout.names, values, strict=True):
        value = host(who, keys, leaf)
        for layer, weight in each_layer(weights[path], value.shape):
            one = value[layer]
            weight.shape(who, path, one.shape)
            tensors[weight.name] = to_torch(who, path, weight.there(one))
    return tensors


def by_path(who: str, paths: tuple[str, ...], names: Names) -> dict[str, Weight]:
    """`names` with a `Weight` for each path, or a `ConfigError` that says where they do not fit."""
    weights = weights_by_path(who, "names", names, "{path: torch's name or Weight}")
    missing = [p for p in paths if p not in names]
    unknown = sorted(set(names) - set(paths))
    if missing or unknown:
        raise ConfigError(
            who,
            "names= has no name for a parameter" if missing else "names= has no such parameter",
            path=(missing or unknown)[0],
            expected=", ".join(paths),
            found=", ".join(names),
        )
    return {path: weights[path] for path in paths}
