"""Named compositions: what several optimizers, or an optimizer and a wrapper, are together."""

from jopt.recipes.layer_decay import Layer as Layer
from jopt.recipes.layer_decay import layer_decay as layer_decay
from jopt.recipes.muon_adamw import HEADS as HEADS
from jopt.recipes.muon_adamw import muon_adamw as muon_adamw
from jopt.recipes.named import ranger as ranger
from jopt.recipes.named import schedule_free_radam as schedule_free_radam
from jopt.recipes.named import stable_adamw as stable_adamw
