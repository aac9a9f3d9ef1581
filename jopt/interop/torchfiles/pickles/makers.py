"""What is plain data: the names that a file may call, and what is built for each.

A name that is not here is never called. Each maker looks at its arguments itself, and builds
nothing larger than what the file holds.
"""

from __future__ import annotations

import pathlib
from collections import Counter, OrderedDict
from typing import Any

import torch

from jopt.interop.torchfiles.pickles import arrays
from jopt.interop.torchfiles.pickles.machine import Machine, Maker
from jopt.interop.torchfiles.pickles.placeholder import (
    Fields,
    Name,
    Placeholder,
    RefusedError,
    Unfinished,
)
from jopt.interop.torchfiles.pickles.tensors import sizes, tensor

Args = tuple[Any, ...]


def _attribute(machine: Machine, args: Args) -> Any:
    """`getattr` of a class, a module or an object: its name."""
    owner, name = args
    text = owner.text if isinstance(owner, Name) else getattr(owner, "name", None)
    if not isinstance(owner, Name | Placeholder) or type(name) is not str:
        raise RefusedError("its pickle takes an attribute of what is plain data")
    return Name(f"{text}.{name}")


def _reconstructed(machine: Machine, args: Args) -> Any:
    """`copyreg._reconstructor`: an object of a class, or of one that is a kind of dict or list."""
    kind, base, held = args
    made = machine.call(kind, ())
    if isinstance(made, Placeholder) and isinstance(base, Name):
        if type(held) is dict:
            made.items = held
        elif type(held) in (list, tuple):
            made.entries = list(held)
        elif held is not None:
            made.args = (held,)
    return made


def _new(machine: Machine, args: Args) -> Any:
    kind, *rest = args
    return machine.call(kind, tuple(rest))


def _counter(machine: Machine, args: Args) -> Any:
    made: Counter[Any] = Counter()
    for key, count in _pairs(args[0]) if args else ():
        made[key] = count
    return made


def _pairs(rows: Any) -> list[tuple[Any, Any]]:
    if isinstance(rows, dict):
        return list(rows.items())
    if type(rows) not in (list, tuple) or not all(
        type(r) in (list, tuple) and len(r) == 2 for r in rows
    ):
        raise RefusedError("a dict of what are no pairs")
    return [(r[0], r[1]) for r in rows]


def _rows(args: Args) -> list[Any]:
    rows = args[0] if args else []
    if type(rows) not in (list, tuple, set, frozenset):
        raise RefusedError("a set or a queue of what is no list")
    return list(rows)


def _bytes(machine: Machine, args: Args) -> Any:
    """Bytes, as pickles of Python 2's protocol spell them: a text in latin-1."""
    text, *encoding = args or ("", "latin1")
    if isinstance(text, bytes | bytearray) and not encoding:
        return bytes(text)
    if type(text) is not str or encoding not in (["latin1"], ["latin-1"]):
        raise RefusedError("bytes of no known encoding")
    return text.encode("latin-1")


def _complex(machine: Machine, args: Args) -> Any:
    if not all(type(x) in (int, float) for x in args) or len(args) > 2:
        raise RefusedError("a complex number of what are no numbers")
    return complex(*args)


def _path(kind: type[pathlib.PurePath]) -> Maker:
    def maker(machine: Machine, args: Args) -> Any:
        if not all(type(part) is str for part in args):
            raise RefusedError("a path of what is no text")
        return str(kind(*args))

    return maker


def _device(machine: Machine, args: Args) -> Any:
    if not args or type(args[0]) is not str or not all(type(n) is int for n in args[1:]):
        raise RefusedError("a device of no possible name")
    return torch.device(*args)


def _view(machine: Machine, args: Args) -> Any:
    """`_rebuild_tensor`, `_rebuild_tensor_v2`: of a storage with a dtype."""
    made = tensor(args[0], args[1], args[2], args[3])
    return _marked(made, args[6] if len(args) > 6 else None)


def _view_of(machine: Machine, args: Args) -> Any:
    """`_rebuild_tensor_v3`: of bytes."""
    if not isinstance(args[6], torch.dtype):
        raise RefusedError("a tensor of no possible dtype")
    made = tensor(args[0], args[1], args[2], args[3], args[6])
    return _marked(made, args[7] if len(args) > 7 else None)


def _marked(made: Any, metadata: Any) -> Any:
    """The tensor with the signs that torch keeps beside its numbers."""
    if isinstance(made, torch.Tensor) and isinstance(metadata, dict):
        if metadata.get("conj") is True and made.dtype.is_complex:
            made = made.conj()
        if metadata.get("neg") is True:
            made = torch._neg_view(made)
    return made


def _first(machine: Machine, args: Args) -> Any:
    """A parameter, or a tensor that was moved to a device: what it is a tensor of."""
    held = args[0] if args else None
    if isinstance(held, torch.Tensor | Placeholder):
        return held
    if type(held).__name__ == "ndarray":
        return torch.from_numpy(held)
    raise RefusedError("a parameter that is no tensor")


def _subclass(machine: Machine, args: Args) -> Any:
    """A tensor of a class of its own: the tensor."""
    function, kind, inner = args[:3]
    made = machine.call(function, inner)
    known = isinstance(made, torch.Tensor)
    return made if known or not isinstance(kind, Name) else Placeholder(kind.text, inner)


def _sparse(machine: Machine, args: Args) -> Any:
    layout, data = args
    if layout is not torch.sparse_coo or not isinstance(data, tuple) or len(data) < 3:
        return Placeholder("torch.Tensor", args)
    indices, values, size = data[:3]
    if not (isinstance(indices, torch.Tensor) and isinstance(values, torch.Tensor)):
        raise RefusedError("a sparse tensor of what are no tensors")
    return torch.sparse_coo_tensor(indices, values, sizes(size), check_invariants=True)


def _meta(machine: Machine, args: Args) -> Any:
    dtype, size, stride = args[:3]
    if not isinstance(dtype, torch.dtype):
        raise RefusedError("a tensor of no possible dtype")
    return torch.empty_strided(sizes(size), sizes(stride), dtype=dtype, device="meta")


def _layout(machine: Machine, args: Args) -> Any:
    known = {str(k): k for k in (torch.strided, torch.sparse_coo, torch.sparse_csr)}
    return known.get(args[0] if type(args[0]) is str else "", Name(f"{args[0]}"))


def settled(target: Any, state: Any) -> Any:
    """An object of plain data with what its file says of it later."""
    if isinstance(target, Unfinished):
        return arrays.settled(target, state)
    if type(target) is Fields and type(state) is dict:
        target.update((k, v) for k, v in state.items() if type(k) is str)
    elif type(target) is OrderedDict and type(state) is dict:
        if "_metadata" in state:  # of model.state_dict(): the versions of its modules
            target._metadata = state["_metadata"]  # type: ignore[attr-defined]
    elif not isinstance(target, torch.Tensor | dict | Name):
        raise RefusedError(f"its pickle sets attributes of a {type(target).__name__}")
    return target


_PATHS: dict[str, type[pathlib.PurePath]] = {
    **dict.fromkeys(("Path", "PosixPath", "PurePath", "PurePosixPath"), pathlib.PurePosixPath),
    **dict.fromkeys(("WindowsPath", "PureWindowsPath"), pathlib.PureWindowsPath),
}
_BAGS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
)
_OF_A_TENSOR = (
    *("_rebuild_parameter", "_rebuild_parameter_with_state"),
    *("_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor"),
)
MAKERS: dict[str, Maker] = {
    "builtins.getattr": _attribute,
    "builtins.set": lambda m, args: set(_rows(args)),
    "builtins.frozenset": lambda m, args: frozenset(_rows(args)),
    "builtins.bytes": _bytes,
    "builtins.bytearray": lambda m, args: bytearray(_bytes(m, args)),
    "builtins.complex": _complex,
    "_codecs.encode": _bytes,
    "copyreg._reconstructor": _reconstructed,
    "copyreg.__newobj__": _new,
    "collections.OrderedDict": lambda m, args: OrderedDict(_pairs(args[0]) if args else ()),
    "collections.Counter": _counter,
    "collections.defaultdict": lambda m, args: dict(_pairs(args[1])) if args[1:] else {},
    "collections.deque": lambda m, args: _rows(args),
    **{f"pathlib.{n}": _path(k) for n, k in _PATHS.items()},
    **{f"pathlib._local.{n}": _path(k) for n, k in _PATHS.items()},
    **dict.fromkeys(_BAGS, lambda m, args: Fields()),
    **arrays.MAKERS,
    "torch.Size": lambda m, args: torch.Size(sizes(args[0] if args else ())),
    "torch.device": _device,
    "torch.nn.parameter.Parameter": _first,
    "torch.serialization._get_layout": _layout,
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor_v3": _view_of,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    **{f"torch._utils.{n}": _first for n in _OF_A_TENSOR},
    "torch._tensor._rebuild_from_type": _subclass,
    "torch._tensor._rebuild_from_type_v2": _subclass,
}
CONSTANTS = {str(k): k for k in vars(torch).values() if isinstance(k, torch.dtype)}
"""Names that are data themselves: torch's dtypes."""
