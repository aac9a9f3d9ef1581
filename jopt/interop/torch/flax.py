"""Torch's names and axes for the parameters of a flax model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from jopt.base import ConfigError, called
from jopt.core.leaf_kinds import in_stack
from jopt.core.paths import Path
from jopt.core.tree import Tree, layout_of
from jopt.interop._given import parameters, pattern, table, word, words
from jopt.interop.torch.weights import (
    LAYER,
    Ordered,
    Unordered,
    Weight,
    each_layer,
    weights_by_path,
)

Rename = Mapping[str, str] | Callable[[str], str]

# torch packs the gates of a recurrent cell into one matrix; flax keeps them apart, or packs its
# own way. These children give such a cell away.
_CELLS = ({"ii", "ig", "io"}, {"ir", "iz", "in"}, {"if", "in", "hn"}, {"dense_i", "dense_h"})
_COLLECTIONS = {"params", "batch_stats"}


def flax_weights(
    params: Tree,
    *,
    rename: Rename | None = None,
    prefix: str = "",
    given: Mapping[str, Weight | str] | None = None,
    order: Iterable[str] | None = None,
) -> dict[str, Weight]:
    r"""Torch's name and axes for every parameter of a flax model, linen or nnx.

    - `Dense`, `Linear`: kernel (in, out) is weight (out, in).
    - `Conv`, grouped ones too: kernel (..., in, out) is weight (out, in, ...).
    - `Embed`: embedding is weight. `LayerNorm`, `BatchNorm`, `GroupNorm`, `RMSNorm`: scale is
      weight. `BatchNorm`: mean and var are running_mean and running_var.
    - bias, and every other name, is the same, in the same order of axes.

    A path becomes a name by writing dots: `Dense_0/kernel` is `Dense_0.weight`. For a model whose
    modules have other names in torch, `rename` says which. The result is a plain dict, to be
    written by hand or changed as you like.

    **Arguments:**

    - `params`: the parameters, or all variables of a linen model, `{"params": ...,
      "batch_stats": ...}`, whose first key is then no part of torch's names.
    - `rename`: `{pattern: replacement}`, regular expressions replaced in torch's name one after
      another, as by `re.sub`; or a function of the name. A `{}` in the result makes the leaf a
      stack of what torch has one by one: `{r"^block\.": "layers.{}."}`.
    - `prefix`: put before every name at last: `"module."` for a model that was saved in
      `DistributedDataParallel`.
    - `given`: `{path: name or Weight}` for leaves that are not to follow the table.
    - `order`: torch's names in torch's order, `model.state_dict()` or any iterable of names; those
      of no leaf are passed over. Without it the result knows no order (jax sorts the keys of
      dicts, torch does not), and exports and files without names refuse it.

    **Raises:** `ConfigError` for a parameter that is not in `order`, for two parameters with one
    name, and, naming all of them, for parameters that are no permutation of torch's: recurrent
    cells (torch packs the gates into one matrix), attention and `DenseGeneral` kernels (torch has
    a matrix), layers stacked by `nn.scan` unless renamed by a `{}`, and `ConvTranspose` (its kernel
    is flipped in space, except with `transpose_kernel=True`, whose axes are those of a `Conv`). A
    tree has no classes: a `ConvTranspose` by another name passes for a `Conv`, and so does a
    stack in which no bias or scale shows the layers.

    >>> import jax.numpy as jnp
    >>> params = {"Dense_0": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
    >>> flax_weights(params, rename={r"^Dense_(\d+)": r"layers.\1"})["Dense_0/kernel"]
    Weight(name='layers.0.weight', axes=(1, 0))
    """
    who = "flax_weights"
    layout = layout_of(who, params)
    shapes = [tuple(x.shape) for x in parameters(who, params)]
    word(who, "prefix", prefix)
    own = {} if given is None else weights_by_path(who, "given", given, "{path: name or Weight}")
    if rename is not None and not callable(rename):
        for regex, new in table(who, "rename", rename, "{pattern: replacement}").items():
            pattern(who, "rename", regex)
            word(who, f"rename[{regex!r}]", new)
    if order is not None:
        order = words(who, "order", order)
    leaves = dict(zip(layout.paths, shapes, strict=True))
    if unknown := set(own) - set(layout.names):
        raise ConfigError(
            "flax_weights", "given= has no such parameter", found=", ".join(sorted(unknown))
        )
    inside = {p[0] for p in leaves if p} <= _COLLECTIONS and all(len(p) > 1 for p in leaves)
    found: dict[str, Weight] = {}
    refused: dict[str, str] = {}

    def called_in_torch(path: Path) -> str:
        leaf, _ = _translated(path, leaves)
        dotted = ".".join((*path[1 if inside else 0 : -1], leaf))
        return prefix + _renamed(dotted, rename)

    # Of stacks what torch has is one layer.
    torch = {path: called_in_torch(path) for path in leaves}
    single = {path: shape[torch[path].count(LAYER) :] for path, shape in leaves.items()}
    for path, name in zip(layout.paths, layout.names, strict=True):
        if name in own:
            found[name] = own[name]
            continue
        if reason := _refusal(path, single):
            refused[name] = reason
            continue
        found[name] = Weight(torch[path], _translated(path, single)[1])
    if refused:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in refused.items())
        raise ConfigError(
            "flax_weights",
            f"these are no permutation of one tensor of torch's:{lines}",
            fix="Say in given={path: Weight(name, axes)} what they are, or convert them yourself.",
        )
    _check_distinct(found)
    sizes = dict(zip(layout.names, shapes, strict=True))
    return Unordered(found) if order is None else _ordered(found, order, sizes)


def _refusal(path: Path, leaves: Mapping[Path, tuple[int, ...]]) -> str | None:
    """Why a leaf cannot be had from torch by turning axes; `None` if it can."""
    if not path:
        return None
    module = path[:-1]
    for depth in range(len(module)):
        kin = {p[depth] for p in leaves if p[:depth] == path[:depth] and len(p) > depth + 1}
        if any(cell <= kin for cell in _CELLS) and len(module) == depth + 1:
            return "a gate of a recurrent cell, which torch packs into one matrix"
        if {"query", "key", "value"} <= kin and path[depth] in {"query", "key", "value", "out"}:
            shape = leaves[path]
            if len(shape) > (2 if path[-1] == "kernel" else 1):
                return f"attention with heads, {shape}, where torch has a matrix: a reshape"
    if path[-1] == "kernel" and _transposes(module):
        return "a ConvTranspose kernel, which torch holds flipped, or with transpose_kernel=True"
    if in_stack(path, leaves):
        return f"of a stack of layers, {leaves[path]}, which torch has one by one"
    bias = len(leaves.get((*module, "bias"), ()))
    general = any("DenseGeneral" in part for part in module) or bias > 1
    shape = leaves[path]
    if path[-1] in ("kernel", "bias") and general and (len(shape) > 2 or bias > 1):
        return f"a DenseGeneral, {shape}, where torch has a matrix: a reshape"
    if path[-1] == "kernel" and not 2 <= len(shape) <= 5:
        return f"a kernel of {len(shape)} axes"
    return None


def _transposes(module: Path) -> bool:
    return bool(module) and "convtranspose" in module[-1].lower().replace("_", "")


def _translated(
    path: Path, leaves: Mapping[Path, tuple[int, ...]]
) -> tuple[str, tuple[int, ...] | None]:
    leaf = path[-1] if path else "weight"
    rank = len(leaves[path])
    if leaf == "kernel":
        return "weight", (rank - 1, rank - 2, *range(rank - 2))
    if leaf in ("scale", "embedding"):
        return "weight", None
    both = all((*path[:-1], name) in leaves for name in ("mean", "var"))
    return (f"running_{leaf}" if leaf in ("mean", "var") and both else leaf), None


def _renamed(name: str, rename: Rename | None) -> str:
    if callable(rename):
        return word(
            "flax_weights", "what rename= returns", called("flax_weights", "rename=", rename, name)
        )
    for regex, replacement in (rename or {}).items():
        name = re.sub(regex, replacement, name)
    return name


def _ordered(
    weights: Mapping[str, Weight], order: Iterable[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Weight]:
    place = {name: n for n, name in enumerate(order)}
    names = {
        path: [one.name for _, one in each_layer(w, shapes[path])] for path, w in weights.items()
    }
    absent = sorted(name for row in names.values() for name in row if name not in place)
    if absent:
        raise ConfigError(
            "flax_weights",
            "order= lacks names",
            expected=", ".join(absent),
            found=", ".join(place) or "none",
        )
    first = {path: min((place[name] for name in row), default=0) for path, row in names.items()}
    return Ordered(dict(sorted(weights.items(), key=lambda item: first[item[0]])), place)


def _check_distinct(weights: Mapping[str, Weight]) -> None:
    owner: dict[str, str] = {}
    for path, weight in weights.items():
        other = owner.setdefault(weight.name, path)
        if other != path:
            raise ConfigError(
                "flax_weights",
                f"two parameters have torch's name {weight.name!r}",
                found=f"{other}, {path}",
                fix="Change rename=.",
            )
