"""One entry for each optimizer: what the laws and the parity runs need to know about it.

Capabilities are data here, so that no test asks for an optimizer by name. A new optimizer is
a file in `jopt/optimizers/` and an entry in this list, or in those of `catalog_of_optax.py` and
`catalog_of_frontier.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

import jopt
from tests.catalog_of_frontier import OF_FRONTIER
from tests.catalog_of_optax import OF_OPTAX, undecayed
from tests.entry import Entry as Entry


def from_zero_momentum(
    learning_rate: float, initial_accumulator_value: float, weight_decay: float, **numbers: Any
) -> optax.GradientTransformation:
    """optax's yogi with the momentum at 0 in the beginning, as the paper has it."""
    yogi = optax.scale_by_yogi(**numbers, initial_accumulator_value=initial_accumulator_value)

    def init(params: Any) -> Any:
        return yogi.init(params)._replace(mu=jax.tree.map(jnp.zeros_like, params))

    alone = optax.GradientTransformation(init, yogi.update)
    return optax.chain(alone, optax.scale_by_learning_rate(learning_rate))


def with_betas(
    b1: float, b2: float, b3: float | None, bias_correction: bool, **numbers: Any
) -> optax.GradientTransformation:
    """optax's prodigy by jopt's names."""
    assert bias_correction
    return optax.contrib.prodigy(betas=(b1, b2), beta3=b3, **numbers)


CATALOG: tuple[Entry, ...] = (
    Entry(
        jopt.sgd,
        settings={"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        torch=(
            {},
            {"lr": 0.1},
            {"lr": 0.1, "weight_decay": 0.1},
            {"lr": 0.05, "momentum": 0.9},
            {"lr": 0.05, "momentum": 0.9, "dampening": 0.5},
            {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
            {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1},
            {"lr": 0.05, "maximize": True},
            {"lr": 0.05, "momentum": 0.9, "maximize": True, "weight_decay": 0.1},
        ),
    ),
    Entry(
        jopt.adam,
        nu_is_mean_square=True,
        settings={"learning_rate": 0.01, "weight_decay": 0.01, "amsgrad": True},
        torch=(
            {},
            {"lr": 0.01},
            {"lr": 0.01, "betas": (0.8, 0.95)},
            {"lr": 0.01, "betas": (0.0, 0.9)},
            {"lr": 0.01, "eps": 1e-3},
            {"lr": 0.01, "weight_decay": 0.1},
            {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
            {"lr": 0.01, "amsgrad": True},
            {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.01, "maximize": True},
        ),
    ),
    Entry(
        jopt.adamw,
        nu_is_mean_square=True,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "amsgrad": True},
        tol32=2e-5,
        torch=(
            {},
            {"lr": 0.01},
            {"lr": 0.01, "betas": (0.8, 0.95)},
            {"lr": 0.01, "eps": 1e-3},
            {"lr": 0.01, "weight_decay": 0.0},
            {"lr": 0.01, "weight_decay": 0.1},
            {"lr": 0.01, "amsgrad": True},
            {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.01, "maximize": True},
        ),
    ),
    Entry(
        jopt.adamax,
        settings={"learning_rate": 0.01, "weight_decay": 0.01},
        torch=(
            {},
            {"lr": 0.1},
            {"lr": 0.01, "betas": (0.8, 0.9)},
            {"lr": 0.01, "betas": (0.0, 0.5)},
            {"lr": 0.01, "eps": 0.1},
            {"lr": 0.01, "maximize": True},
            {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True},
        ),
    ),
    Entry(
        jopt.nadam,
        nu_is_mean_square=True,
        settings={"learning_rate": 0.01, "weight_decay": 0.01, "decoupled": True},
        torch=(
            {},
            {"lr": 0.01, "betas": (0.8, 0.95)},
            {"lr": 0.01, "betas": (0.0, 0.9)},
            {"lr": 0.01, "eps": 1e-3},
            {"lr": 0.01, "momentum_decay": 0.0},
            {"lr": 0.01, "momentum_decay": 0.5, "weight_decay": 0.1},
            {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
            {"lr": 0.01, "betas": (0.7, 0.9), "weight_decay": 0.1, "maximize": True},
        ),
    ),
    Entry(
        jopt.radam,
        nu_is_mean_square=True,
        settings={"learning_rate": 0.01, "weight_decay": 0.01, "decoupled": True},
        torch=(
            {},
            {"lr": 0.01, "betas": (0.8, 0.95)},
            {"lr": 0.01, "betas": (0.9, 0.6)},
            {"lr": 0.01, "betas": (0.0, 0.0)},
            {"lr": 0.01, "betas": (0.9, 0.995), "eps": 1e-3},
            {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
            {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True},
        ),
    ),
    Entry(
        jopt.adadelta,
        settings={"learning_rate": 0.5, "weight_decay": 0.01},
        torch=(
            {},
            {"lr": 0.1, "rho": 0.5},
            {"lr": 0.1, "rho": 0.0},
            {"eps": 1e-3},
            {"lr": 0.1, "maximize": True},
            {"rho": 0.95, "weight_decay": 0.1, "maximize": True},
        ),
    ),
    Entry(
        jopt.adagrad,
        settings={"learning_rate": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1},
        torch=(
            {},
            {"lr": 0.1, "lr_decay": 0.5},
            {"lr": 0.1, "eps": 0.1},
            {"lr": 0.1, "initial_accumulator_value": 0.5},
            {"lr": 0.1, "maximize": True},
            {
                "lr": 0.1,
                "lr_decay": 0.01,
                "weight_decay": 0.1,
                "initial_accumulator_value": 0.1,
                "maximize": True,
            },
        ),
    ),
    Entry(
        jopt.rmsprop,
        settings={
            "learning_rate": 0.01,
            "weight_decay": 0.01,
            "momentum": 0.9,
            "centered": True,
        },
        torch=(
            {},
            {"lr": 0.01, "alpha": 0.5},
            {"lr": 0.01, "alpha": 0.0},
            {"lr": 0.01, "eps": 0.1},
            {"lr": 0.01, "momentum": 0.9},
            {"lr": 0.01, "momentum": 0.9, "maximize": True},
            {"lr": 0.01, "alpha": 0.9, "centered": True},
            {
                "lr": 0.01,
                "alpha": 0.9,
                "momentum": 0.5,
                "centered": True,
                "weight_decay": 0.1,
                "maximize": True,
            },
        ),
    ),
    Entry(
        jopt.rprop,
        settings={"learning_rate": 0.01},
        torch=(
            {},
            {"lr": 0.1},
            {"lr": 0.01, "etas": (0.2, 3.0)},
            {"lr": 0.01, "step_sizes": (1e-3, 0.02)},
            {"lr": 0.01, "etas": (0.3, 1.5), "step_sizes": (1e-4, 0.1), "maximize": True},
        ),
    ),
    Entry(
        jopt.asgd,
        settings={"learning_rate": 0.01, "lambd": 0.01, "t0": 2.0, "weight_decay": 0.01},
        tol32=2e-5,
        still_on_zero_gradient=False,  # its own decay, `lambd`
        torch=(
            {},
            {"lr": 0.05, "lambd": 0.1},
            {"lr": 0.05, "lambd": 0.1, "alpha": 0.25, "t0": 10},
            {"lr": 0.05, "lambd": 0.0},
            {"lr": 0.05, "t0": 0.0, "maximize": True},
            {"lr": 0.05, "lambd": 0.1, "alpha": 0.5, "weight_decay": 0.1, "maximize": True},
        ),
    ),
    Entry(
        jopt.adafactor,
        # Steps are relative to RMS(p): longer ones take float16 out of its range in a few thousand.
        settings={"learning_rate": 0.003, "weight_decay": 0.01},
        torch_complex=False,
        torch=(
            {},
            {"lr": 0.5},
            {"lr": 0.1, "beta2_decay": -0.3},
            {"lr": 0.1, "beta2_decay": 0.0},
            {"lr": 0.1, "eps": (1e-2, 0.1)},
            {"lr": 0.1, "eps": (1e-30, 1e-3), "d": 2.0},
            {"lr": 0.1, "beta2_decay": -0.5, "d": 1.5, "weight_decay": 0.1, "maximize": True},
        ),
    ),
    Entry(
        jopt.lbfgs,
        settings={"learning_rate": 0.05, "max_iter": 3, "history_size": 4},
        separable=False,
        reverse_mode=False,
        skips=False,
        compresses=False,
    ),
    Entry(
        # Its torch runs are with Newton-Schulz, which torch does in bfloat16 whatever the
        # parameters: see tests/optimizers/test_muon.py.
        jopt.muon,
        settings={"learning_rate": 0.02, "weight_decay": 0.1},
        complex=False,
        ndims=(2,),
    ),
    Entry(
        jopt.sparse_adam,
        settings={"learning_rate": 0.01},
        torch_complex=False,
        ndims=(1, 2, 3),
        torch=(
            {},
            {"lr": 0.01, "betas": (0.8, 0.95)},
            {"lr": 0.01, "eps": 1e-3},
            {"lr": 0.01, "maximize": True},
        ),
    ),
    Entry(
        jopt.lion,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=(
            {},
            {"learning_rate": 0.01, "weight_decay": 0.0},
            {"learning_rate": 0.01, "b1": 0.5, "b2": 0.8, "weight_decay": 0.1},
        ),
        optax=optax.lion,
    ),
    Entry(
        jopt.signum,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=({}, {"learning_rate": 0.01, "beta": 0.5}, {"beta": 0.0}),
        optax=lambda learning_rate, beta, weight_decay: optax.signum(learning_rate, beta),
    ),
    Entry(
        jopt.adabelief,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "nesterov": True},
        runs=(
            {},
            {"learning_rate": 0.01, "b1": 0.5, "b2": 0.9, "eps": 1e-8, "eps_root": 1e-3},
            {"learning_rate": 0.01, "eps": 1e-3, "nesterov": True},
        ),
        optax=undecayed(optax.adabelief),
    ),
    Entry(
        jopt.yogi,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=(
            {},
            {"b1": 0.5, "b2": 0.9, "eps": 1e-6},
            {"b2": 0.9, "initial_accumulator_value": 0.1},
        ),
        optax=from_zero_momentum,
    ),
    Entry(
        # optax mixes in the change of the gradient with 1 - b2 where b2 is meant.
        jopt.adan,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "eps_root": 1e-8},
        runs=(
            {},
            {"learning_rate": 0.01, "weight_decay": 0.1, "eps_root": 1e-6},
            {"learning_rate": 0.01, "b1": 0.5, "b2": 0.7, "b3": 0.9, "eps": 1e-3},
        ),
    ),
    Entry(
        jopt.adopt,
        begins_at_once=False,
        settings={"learning_rate": 0.01, "weight_decay": 0.01},
        runs=(
            {},
            {"learning_rate": 0.01, "b1": 0.5, "b2": 0.9, "eps": 1e-3},
            {"learning_rate": 0.01, "b2": 0.99, "nesterov": True},
            {"learning_rate": 1e-6, "b2": 0.9, "eps": 1e-3, "use_clipping": False},
        ),
        optax=undecayed(optax.contrib.adopt),
    ),
    Entry(
        jopt.lamb,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=(
            {},
            {"learning_rate": 0.01, "weight_decay": 0.1},
            {"learning_rate": 0.01, "b1": 0.5, "b2": 0.9, "eps": 1e-3, "eps_root": 1e-3},
        ),
        optax=optax.lamb,
    ),
    Entry(
        jopt.lars,
        settings={"learning_rate": 0.1, "weight_decay": 0.01, "trust_coefficient": 0.1},
        runs=(
            {},
            {"weight_decay": 0.1, "trust_coefficient": 0.01, "eps": 1e-3, "momentum": 0.5},
            {"learning_rate": 0.5, "trust_coefficient": 0.1, "momentum": 0.8, "nesterov": True},
            {"weight_decay": 0.1, "momentum": 0.0},
        ),
        optax=optax.lars,
    ),
    Entry(
        jopt.novograd,
        settings={"learning_rate": 0.01, "weight_decay": 0.01},
        runs=(
            {},
            {"learning_rate": 0.1, "weight_decay": 0.1},
            {"b1": 0.5, "b2": 0.9, "eps": 1e-2, "eps_root": 1e-3},
        ),
        optax=optax.novograd,
    ),
    Entry(
        jopt.prodigy,
        settings={"weight_decay": 0.01, "estim_lr0": 1e-3},
        separable=False,
        runs=(
            {},
            {"estim_lr0": 1e-3, "estim_lr_coef": 0.5, "weight_decay": 0.1},
            {"learning_rate": 0.5, "b1": 0.5, "b2": 0.9, "b3": 0.8, "safeguard_warmup": True},
        ),
        optax=with_betas,
    ),
    *OF_OPTAX,
    *OF_FRONTIER,
)

BY_NAME = {entry.name: entry for entry in CATALOG}
