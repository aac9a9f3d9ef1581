"""One tensor of torch's as a NumPy array, and back, every bit of it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from jopt.base import CheckpointError


def to_numpy(who: str, name: str, tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor, NumPy or jax array on the host, sharing memory with nothing.

    torch's `numpy()` refuses bfloat16 and the 8-bit floats: their bits go through an integer.
    """
    if not hasattr(tensor, "detach"):
        return np.array(tensor, order="C")
    if hasattr(tensor, "full_tensor"):  # sharded: every process has to take part
        tensor = tensor.full_tensor()
    if str(tensor.layout) != "torch.strided":
        raise CheckpointError(who, f"a sparse tensor, {tensor.layout}", path=name)
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.dtype.is_floating_point and hasattr(ml_dtypes, kind):
        import torch

        bits = tensor.view(torch.int16 if tensor.dtype.itemsize == 2 else torch.uint8)
        return np.array(bits.numpy()).view(getattr(ml_dtypes, kind))
    try:
        return np.array(tensor.numpy())
    except (TypeError, RuntimeError) as error:
        raise CheckpointError(
            who, f"NumPy cannot hold {tensor.dtype}", path=name, found=str(error)
        ) from None


def to_torch(who: str, name: str, array: Any) -> Any:
    """An array as a torch tensor on the CPU that shares memory with nothing."""
    import torch

    value = np.array(array, order="C")
    if hasattr(ml_dtypes, value.dtype.name):
        kind = getattr(torch, value.dtype.name, None)
        if kind is None:
            raise CheckpointError(who, f"torch cannot hold {value.dtype}", path=name)
        bits = value.view(np.int16 if value.dtype.itemsize == 2 else np.uint8)
        return torch.from_numpy(bits).view(kind)
    return torch.from_numpy(value)
