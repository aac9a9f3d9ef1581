"""The hyperparameters and slots that many optimizers share, with torch's keys for them."""

from __future__ import annotations

from jopt.core.spec import Hyper, Slot

RATE = Hyper("learning_rate", "[0, inf)", torch="lr")
B1 = Hyper("b1", "[0, 1)", torch="betas[0]")
B2 = Hyper("b2", "[0, 1)", torch="betas[1]")
EPS = Hyper("eps", "[0, inf)", torch="eps")
EPS_ROOT = Hyper("eps_root", "[0, inf)", optional="zero")
DECAY = Hyper("weight_decay", "[0, inf)", torch="weight_decay")

MU = Slot("mu", torch="exp_avg")
NU = Slot("nu", torch="exp_avg_sq", signed=False)
"""Adam's mean of squares, of which the rule takes the bias by b2 and t; `jopt.stable` reads it."""
SQUARES = Slot("nu", signed=False)
"""Some other mean of squares."""
NU_MAX = Slot("nu_max", torch="max_exp_avg_sq", signed=False, when=lambda on: on["amsgrad"])
BUFFER = Slot("momentum_buffer", torch="momentum_buffer")

BOUND = Hyper("lower_bound", scheduled=False)
MODEL = (
    Slot("mean_value", scope="group"),
    Slot("mean_dot", scope="group"),
    Slot("bound", init="lower_bound", scope="group"),
    Slot("steps", scope="group", dtype="int32"),
)
"""What MoMo keeps of the loss, of which `BOUND` is the least."""
