"""torch: its classes and arguments, optimizer states, schedulers, weights and files, both ways."""

from jopt.interop.torch.build import optimizer as optimizer
from jopt.interop.torch.flax import flax_weights as flax_weights
from jopt.interop.torch.params import export_params as export_params
from jopt.interop.torch.params import import_params as import_params
from jopt.interop.torch.schedulers.build import momentum_schedule as momentum_schedule
from jopt.interop.torch.schedulers.build import scheduler as scheduler
from jopt.interop.torch.schedulers.exported import TorchScheduler as TorchScheduler
from jopt.interop.torch.schedulers.exported import export_scheduler as export_scheduler
from jopt.interop.torch.schedulers.imported import (
    import_momentum_schedule as import_momentum_schedule,
)
from jopt.interop.torch.schedulers.imported import import_scheduler as import_scheduler
from jopt.interop.torch.schedulers.paced import paced as paced
from jopt.interop.torch.schedulers.paced import resumed as resumed
from jopt.interop.torch.states.schedule_free import export_schedule_free as export_schedule_free
from jopt.interop.torch.states.schedule_free import import_schedule_free as import_schedule_free
from jopt.interop.torch.states.transfer import export_optimizer as export_optimizer
from jopt.interop.torch.states.transfer import from_state_dict as from_state_dict
from jopt.interop.torch.states.transfer import import_optimizer as import_optimizer
from jopt.interop.torch.weights import Weight as Weight
from jopt.interop.torchfiles.folders import TorchRun as TorchRun
from jopt.interop.torchfiles.folders import read_checkpoint as read_checkpoint
from jopt.interop.torchfiles.huggingface import huggingface_groups as huggingface_groups
from jopt.interop.torchfiles.huggingface import huggingface_schedule as huggingface_schedule
from jopt.interop.torchfiles.pickles.placeholder import Placeholder as Placeholder
