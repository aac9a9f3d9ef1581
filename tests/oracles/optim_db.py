"""The configurations that torch tests its own optimizers with."""

import torch
from torch.testing._internal.common_optimizers import optim_db


def configurations(name):
    """Torch's keyword arguments for each CPU configuration of its optimizer `name`.

    A learning rate given as a tensor is the number in it: as a float32 tensor torch computes
    with it in float32, whatever the parameters are.
    """
    [info] = [info for info in optim_db if info.optim_cls.__name__ == name]
    return [
        {k: v.item() if isinstance(v, torch.Tensor) else v for k, v in config.kwargs.items()}
        for config in info.optim_inputs_func(device="cpu")
    ]
