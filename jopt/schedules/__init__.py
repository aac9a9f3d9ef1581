"""Schedules: functions of the step, for any hyperparameter of any transform.

>>> import jopt
>>> tx = jopt.adamw(jopt.schedules.warmup_cosine(1e-3, 100, 1000))
"""

from jopt.schedules.constant import constant as constant
from jopt.schedules.constant import constant_factor as constant_factor
from jopt.schedules.cosine import cosine as cosine
from jopt.schedules.cosine import cosine_annealing as cosine_annealing
from jopt.schedules.cosine import cosine_restarts as cosine_restarts
from jopt.schedules.cosine import sgdr as sgdr
from jopt.schedules.cosine import warmup_cosine as warmup_cosine
from jopt.schedules.cyclic import cyclic as cyclic
from jopt.schedules.cyclic import cyclic_momentum as cyclic_momentum
from jopt.schedules.exponential import exponential as exponential
from jopt.schedules.join import join as join
from jopt.schedules.join import product as product
from jopt.schedules.linear import linear as linear
from jopt.schedules.onecycle import onecycle as onecycle
from jopt.schedules.onecycle import onecycle_momentum as onecycle_momentum
from jopt.schedules.piecewise import piecewise as piecewise
from jopt.schedules.piecewise import stretched as stretched
from jopt.schedules.plateau import Plateau as Plateau
from jopt.schedules.plateau import plateau as plateau
from jopt.schedules.polynomial import polynomial as polynomial
from jopt.schedules.scaled import multiplicative as multiplicative
from jopt.schedules.scaled import scaled as scaled
from jopt.schedules.scaled import table as table
from jopt.schedules.schedule import Schedule as Schedule
from jopt.schedules.step import multistep as multistep
from jopt.schedules.step import step as step
from jopt.schedules.swa import swa as swa
from jopt.schedules.warmup import inverse_sqrt as inverse_sqrt
from jopt.schedules.warmup import rectified as rectified
from jopt.schedules.warmup import warmup as warmup
from jopt.schedules.warmup import warmup_constant as warmup_constant
from jopt.schedules.warmup import wsd as wsd
