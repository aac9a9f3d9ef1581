"""torch: building jopt's equivalents from torch's names and arguments. Does not import torch."""

from jopt.interop.torch.build import optimizer as optimizer
