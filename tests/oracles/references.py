"""The classes of the reference implementations on PyPI, and what takes their steps here.

Of those for JAX `test_psgd.py` has one; two do not run with jax 0.10, see `recorded/make.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jopt


@dataclass(frozen=True)
class Pair:
    """A class of a package and the transform that takes its steps.

    `theirs` are the class's arguments, `value` is whether its step takes the loss, `every` in how
    many steps it takes a Hessian's diagonal once (0: never; of averages over blocks it has none),
    `ndims` are the ranks of parameter for which both have one rule. `apart` says in what theirs
    departs from its paper, for all arguments: then they must differ, or the row is to be mended.
    """

    where: str
    theirs: dict[str, Any]
    ours: Callable[[], Any]
    value: bool = False
    every: int = 0
    ndims: tuple[int, ...] = (0, 1, 2, 3)
    apart: str = ""
    within: float = 1e-10
    """What theirs keeps in float32, or adds to norms, in this distance."""

    @property
    def name(self) -> str:
        return self.where.replace(":", ".")


PO = "pytorch_optimizer:"

PAIRS = (
    Pair(
        "prodigyopt:Prodigy",
        {"d0": 1e-3, "weight_decay": 0.1},
        lambda: jopt.prodigy(estim_lr0=1e-3, weight_decay=0.1, bias_correction=False),
    ),
    Pair(
        "prodigyopt:Prodigy",
        {"d0": 1e-3, "use_bias_correction": True, "safeguard_warmup": True, "d_coef": 2.0},
        lambda: jopt.prodigy(estim_lr0=1e-3, safeguard_warmup=True, estim_lr_coef=2.0),
    ),
    Pair(
        "schedulefree:AdamWScheduleFree",
        {"lr": 0.1, "weight_decay": 0.1, "betas": (0.9, 0.99)},
        lambda: jopt.schedule_free(
            jopt.rmsprop(0.1, 0.99, bias_correction=True, weight_decay=0.1, decoupled=True), 0.1
        ),
    ),
    Pair(
        "schedulefree:SGDScheduleFree",
        {"lr": 0.01, "weight_decay": 0.1, "warmup_steps": 10},
        lambda: jopt.schedule_free(
            jopt.sgd(jopt.schedules.linear(0.001, 0.01, 9), weight_decay=0.1),
            jopt.schedules.linear(0.001, 0.01, 9),
        ),
    ),
    Pair(
        "lion_pytorch:Lion",
        {"lr": 0.01, "weight_decay": 0.1},
        lambda: jopt.lion(0.01, weight_decay=0.1),
    ),
    Pair(
        "adan_pytorch:Adan",
        {"lr": 0.01},
        lambda: jopt.adan(0.01),
        apart="its means leave out the first gradient and count it; algorithm 1 has m₀ = g₀",
    ),
    Pair(
        "dadaptation:DAdaptAdam",
        {"d0": 1e-3, "weight_decay": 0.1, "decouple": True, "use_bias_correction": True},
        lambda: jopt.dadapt_adamw(estim_lr0=1e-3, weight_decay=0.1),
    ),
    Pair(
        "momo:Momo",
        {"lr": 0.1, "weight_decay": 0.1, "lb": -2.0, "use_fstar": True},
        lambda: jopt.momo(0.1, lower_bound=-2.0, weight_decay=0.1, adapt_lower_bound=True),
        value=True,
    ),
    Pair(
        "momo:Momo",
        {"lr": 0.1, "weight_decay": 0.1, "lb": -2.0},
        lambda: jopt.momo(0.1, lower_bound=-2.0, weight_decay=0.1),
        value=True,
    ),
    Pair(
        "momo:MomoAdam",
        {"lr": 0.1, "weight_decay": 0.1, "lb": -2.0, "use_fstar": True},
        lambda: jopt.momo_adam(0.1, lower_bound=-2.0, weight_decay=0.1, adapt_lower_bound=True),
        value=True,
    ),
    Pair(
        "momo:MomoAdam",
        {"lr": 0.1, "weight_decay": 0.1, "lb": -2.0},
        lambda: jopt.momo_adam(0.1, lower_bound=-2.0, weight_decay=0.1),
        value=True,
    ),
    Pair(
        "dog:DoG",
        {"reps_rel": 1e-3, "weight_decay": 0.1},
        lambda: jopt.dog(init_step=("heuristic", 1e-3), weight_decay=0.1),
    ),
    Pair(
        "madgrad:MADGRAD",
        {"lr": 0.1, "weight_decay": 0.1},
        lambda: jopt.madgrad(0.1, weight_decay=0.1),
    ),
    Pair(
        "adabelief_pytorch:AdaBelief",
        {"lr": 0.01, "weight_decay": 0.1, "rectify": False, "print_change_log": False},
        lambda: jopt.adabelief(0.01, weight_decay=0.1),
    ),
    Pair(
        PO + "AdaBelief",
        {"lr": 0.01, "weight_decay": 0.1},
        lambda: jopt.adabelief(0.01, weight_decay=0.1),
    ),
    Pair(
        PO + "AdEMAMix",
        {"lr": 0.01, "weight_decay": 0.1, "weight_decouple": True},
        lambda: jopt.ademamix(0.01, weight_decay=0.1),
    ),
    Pair(
        PO + "SimplifiedAdEMAMix",
        {"lr": 1e-3, "weight_decay": 0.1, "alpha": 2.0},
        lambda: jopt.simplified_ademamix(1e-3, alpha=2.0, weight_decay=0.1),
        apart="a mean of gradients where the paper has their sum; ν's correction upside down",
    ),
    Pair(
        PO + "ADOPT",
        # It bounds by t^¼, the authors by (t − 1)^¼.
        {"lr": 0.01, "weight_decay": 0.1, "clip_lambda": lambda t: (t - 1) ** 0.25},
        lambda: jopt.adopt(0.01, weight_decay=0.1),
    ),
    Pair(
        PO + "MADGRAD",
        {"lr": 0.1, "weight_decay": 0.1},
        lambda: jopt.madgrad(0.1, weight_decay=0.1),
    ),
    Pair(
        PO + "Lamb",
        {"lr": 0.01, "weight_decay": 0.1, "weight_decouple": False, "pre_norm": False},
        lambda: jopt.lamb(0.01, weight_decay=0.1),
        apart="no correction of ν, that of μ outside the norm, ‖p‖ at most 10: not algorithm 2",
    ),
    Pair(
        PO + "LARS",
        {"lr": 0.1},  # with decay the norms differ, see `jopt.lars`
        lambda: jopt.lars(0.1),
        ndims=(2, 3),  # the others it does not scale
    ),
    Pair(
        PO + "SM3",
        {"lr": 0.01, "momentum": 0.9},
        lambda: jopt.sm3(0.01, eps=1e-30),
    ),
    Pair(
        PO + "NovoGrad",
        {"lr": 0.01, "weight_decay": 0.1},
        lambda: jopt.novograd(0.01, 0.95, 0.98, eps=1e-8, weight_decay=0.1),
    ),
    Pair(
        PO + "Yogi",
        # Its momentum, too, starts at what ν starts from, as optax's.
        {"lr": 0.01, "weight_decay": 0.1, "initial_accumulator": 0.0},
        lambda: jopt.yogi(0.01, weight_decay=0.1, initial_accumulator_value=0.0),
    ),
    Pair(PO + "Fromage", {"lr": 0.1}, lambda: jopt.fromage(0.1)),
    Pair(
        PO + "Adan",
        {"lr": 0.01, "weight_decay": 0.1, "weight_decouple": True},
        lambda: jopt.adan(0.01, weight_decay=0.1),
    ),
    Pair(
        PO + "SignSGD",
        {"lr": 0.01, "weight_decay": 0.1},
        lambda: jopt.signum(0.01, weight_decay=0.1),
    ),
    Pair(
        "schedulefree:RAdamScheduleFree",
        {"lr": 0.01, "weight_decay": 0.1, "foreach": False},
        lambda: jopt.recipes.schedule_free_radam(0.01, weight_decay=0.1),
    ),
    Pair(
        PO + "StableAdamW",
        {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "kahan_sum": False},
        lambda: jopt.recipes.stable_adamw(0.01, weight_decay=0.1),
    ),
    Pair(
        PO + "Ranger",
        {"lr": 0.01, "use_gc": False, "degenerated_to_sgd": True},
        lambda: jopt.recipes.ranger(0.01),
    ),
    Pair(
        PO + "AdaBound",
        {"lr": 0.01, "gamma": 0.05, "weight_decay": 0.1, "weight_decouple": False},
        lambda: jopt.adabound(0.01, gamma=0.05, weight_decay=0.1),
    ),
    Pair(
        PO + "AdaBound",
        {"lr": 0.01, "gamma": 0.05, "ams_bound": True},
        lambda: jopt.adabound(0.01, gamma=0.05, amsbound=True),
    ),
    Pair(
        PO + "Tiger",
        {"lr": 0.01, "weight_decay": 0.1, "weight_decouple": True},
        lambda: jopt.tiger(0.01, relative=False, weight_decay=0.1),
    ),
    Pair(
        "came_pytorch:CAME",
        {"lr": 0.01, "weight_decay": 0.1},
        lambda: jopt.came(0.01, weight_decay=0.1),
        ndims=(1, 2, 3),
    ),
    Pair(
        PO + "CAME",
        {"lr": 0.01, "weight_decay": 0.1},
        lambda: jopt.came(0.01, weight_decay=0.1),
        ndims=(1, 2, 3),
    ),
    Pair(
        PO + "MARS",
        {"lr": 0.01, "mars_type": "lion", "weight_decay": 0.1, "weight_decouple": True},
        lambda: jopt.mars(jopt.lion(0.01, 0.95, 0.95, weight_decay=0.1)),
        ndims=(2,),  # of the others it makes AdamW's
    ),
    Pair(
        PO + "SOAP",
        {"lr": 0.01, "precondition_frequency": 3, "max_precondition_dim": 4, "weight_decay": 0.0},
        lambda: jopt.soap(0.01, update_every=3, max_size=4, weight_decay=0.0),
        ndims=(2,),  # vectors rest at its first step
        within=1e-5,  # its decompositions are in float32
    ),
    Pair(
        "muon:SingleDeviceMuon",
        {"lr": 0.02, "weight_decay": 0.1},
        lambda: jopt.muon(0.02, weight_decay=0.1, ns_dtype="float64"),
        ndims=(2,),
        within=1e-4,  # it adds 1e-7 to norms, and some here are near it
    ),
    Pair(
        PO + "Shampoo",
        {"lr": 0.01, "momentum": 0.0, "preconditioning_compute_steps": 1, "matrix_eps": 1e-3},
        lambda: jopt.shampoo(0.01, b1=0.0, b2=1.0, eps=1e-3, ridge=0.0, graft=None, update_every=1),
        ndims=(2,),  # vectors have a factor there
    ),
    Pair(
        PO + "AdaHessian",
        {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.1, "weight_decouple": True},
        lambda: jopt.adahessian(0.05, eps=1e-3, weight_decay=0.1, estimator="given"),
        every=1,
    ),
    Pair(
        PO + "AdaHessian",
        {"lr": 0.05, "eps": 1e-3, "hessian_power": 0.6},
        lambda: jopt.adahessian(0.05, eps=1e-3, hessian_power=0.6, estimator="given"),
        every=1,
    ),
    Pair(
        PO + "AdaHessian",
        {"lr": 0.05, "eps": 1e-3, "update_period": 3},
        lambda: jopt.adahessian(0.05, eps=1e-3, update_interval=3, estimator="given"),
        every=3,
        apart="it corrects the mean of squares by all steps; one in three has an estimate",
    ),
)
