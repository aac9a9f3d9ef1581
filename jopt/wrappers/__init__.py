"""Wrappers: they take a Transform and give a Transform."""

from jopt.wrappers.accumulate import accumulate as accumulate
from jopt.wrappers.averages import ema as ema
from jopt.wrappers.averages import swa as swa
from jopt.wrappers.cautious import cautious as cautious
from jopt.wrappers.cautious_decay import cautious_decay as cautious_decay
from jopt.wrappers.conditionally import conditionally as conditionally
from jopt.wrappers.evaluated import eval_params as eval_params
from jopt.wrappers.galore import galore as galore
from jopt.wrappers.grams import grams as grams
from jopt.wrappers.hyperball import hyperball as hyperball
from jopt.wrappers.lookahead import lookahead as lookahead
from jopt.wrappers.loss_scale import loss_scale as loss_scale
from jopt.wrappers.loss_scale import loss_scale_of as loss_scale_of
from jopt.wrappers.mars import mars as mars
from jopt.wrappers.master_weights import master_weights as master_weights
from jopt.wrappers.mechanize import mechanize as mechanize
from jopt.wrappers.monitor import monitor as monitor
from jopt.wrappers.sam import asam as asam
from jopt.wrappers.sam import sam as sam
from jopt.wrappers.schedule_free import schedule_free as schedule_free
from jopt.wrappers.skip_large_updates import skip_large_updates as skip_large_updates
from jopt.wrappers.skip_nonfinite import skip_nonfinite as skip_nonfinite
from jopt.wrappers.skip_spikes import skip_spikes as skip_spikes
from jopt.wrappers.stable import stable as stable
from jopt.wrappers.trust_ratio import trust_ratio as trust_ratio
