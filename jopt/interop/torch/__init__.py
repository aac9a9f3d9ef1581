"""torch: building jopt's equivalents from torch's names and arguments. Does not import torch."""

from jopt.interop.torch.build import optimizer as optimizer
from jopt.interop.torch.schedulers import momentum_schedule as momentum_schedule
from jopt.interop.torch.schedulers import scheduler as scheduler
