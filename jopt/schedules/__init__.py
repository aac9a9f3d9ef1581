"""Schedules: functions of the step, for any hyperparameter of any transform.

>>> import jopt
>>> tx = jopt.adamw(jopt.schedules.warmup_cosine(1e-3, 100, 1000))
"""

from jopt.schedules.constant import constant as constant
from jopt.schedules.cosine import cosine as cosine
from jopt.schedules.cosine import warmup_cosine as warmup_cosine
from jopt.schedules.exponential import exponential as exponential
from jopt.schedules.join import join as join
from jopt.schedules.linear import linear as linear
from jopt.schedules.polynomial import polynomial as polynomial
from jopt.schedules.schedule import Schedule as Schedule
from jopt.schedules.step import multistep as multistep
from jopt.schedules.step import step as step
