"""The entries of what only optax and papers have, in the catalogue behind those of `catalog.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax
import optax.contrib

import jopt
from tests.entry import Entry


def undecayed(factory: Callable[..., Any]) -> Callable[..., optax.GradientTransformation]:
    """An optax factory that knows no weight decay; the runs have none."""

    def made(*, weight_decay: float, **numbers: Any) -> optax.GradientTransformation:
        assert weight_decay == 0
        return factory(**numbers)

    return made


def decayed(factory: Callable[..., Any]) -> Callable[..., optax.GradientTransformation]:
    """An optax factory with its decay in a link of its own, coupled."""

    def made(*, weight_decay: float, **numbers: Any) -> optax.GradientTransformation:
        return optax.chain(optax.add_decayed_weights(weight_decay), factory(**numbers))

    return made


def by_betas(factory: Callable[..., Any]) -> Callable[..., optax.GradientTransformation]:
    """An optax factory that takes b1 and b2 in one."""

    def made(*, b1: float, b2: float, **numbers: Any) -> optax.GradientTransformation:
        return factory(betas=(b1, b2), **numbers)

    return made


OF_OPTAX: tuple[Entry, ...] = (
    Entry(
        jopt.sign_sgd,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=({}, {"learning_rate": 0.01}),
        optax=undecayed(optax.sign_sgd),
    ),
    Entry(
        jopt.fromage,
        settings={"learning_rate": 0.01},
        still_on_zero_gradient=False,  # it shrinks what it does not move
        runs=({}, {"learning_rate": 0.5, "min_norm": 1.0}, {"min_norm": 0.0}),
        optax=optax.fromage,
    ),
    Entry(
        jopt.optimistic_gradient_descent,
        settings={"learning_rate": 0.01, "weight_decay": 0.01},
        runs=({}, {"learning_rate": 0.01, "alpha": 0.5, "beta": 2.0, "weight_decay": 0.1}),
        optax=decayed(optax.optimistic_gradient_descent),
    ),
    Entry(
        jopt.optimistic_adam,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=(
            {},
            {"alpha": 0.5, "beta": 2.0, "b1": 0.5, "b2": 0.9, "eps": 1e-3, "nesterov": False},
            {"learning_rate": 0.01, "eps_root": 1e-3},
        ),
        optax=undecayed(optax.optimistic_adam_v2),
    ),
    Entry(
        # optax takes the difference from the old momentum, not, as its formula, from the new.
        jopt.acprop,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=(
            {},
            {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.1},
            {"b2": 0.99, "eps": 1e-8, "eps_root": 1e-3},
        ),
    ),
    Entry(
        jopt.ademamix,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=(
            {},
            {"b1": 0.5, "b2": 0.9, "b3": 0.99, "alpha": 8.0, "weight_decay": 0.1},
            {"learning_rate": 0.01, "eps": 1e-3, "eps_root": 1e-3},
        ),
        optax=optax.contrib.ademamix,
    ),
    Entry(
        jopt.simplified_ademamix,
        settings={"learning_rate": 0.001, "weight_decay": 0.1, "alpha": 2.0},
        runs=(
            {},
            {"b1": 0.9, "b2": 0.99, "alpha": 10.0, "weight_decay": 0.1},
            {"learning_rate": 0.001, "eps": 1e-3, "eps_root": 1e-3},
        ),
        optax=optax.contrib.simplified_ademamix,
    ),
    Entry(
        jopt.cocob,
        settings={"weight_decay": 0.01},
        runs=({}, {"learning_rate": 0.5, "alpha": 10.0, "eps": 1e-3, "weight_decay": 0.1}),
        optax=optax.contrib.cocob,
    ),
    Entry(
        # optax takes the root of its count in float32, whatever the parameters.
        jopt.madgrad,
        settings={"learning_rate": 0.01, "weight_decay": 0.01},
        runs=({}, {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.1, "eps": 1e-3}),
    ),
    Entry(
        # optax has no rule for numbers.
        jopt.sm3,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        complex=False,
        runs=(
            {},
            {"learning_rate": 0.01, "momentum": 0.0, "b2": 0.9, "eps": 1e-3},
        ),
    ),
    Entry(
        jopt.dadapt_adamw,
        settings={"weight_decay": 0.01, "estim_lr0": 1e-3},
        separable=False,
        runs=(
            {},
            {"estim_lr0": 1e-3, "weight_decay": 0.1},
            {"learning_rate": 0.5, "b1": 0.5, "b2": 0.9, "eps": 1e-3},
        ),
        optax=by_betas(optax.contrib.dadapt_adamw),
    ),
    Entry(
        jopt.dog,
        settings={"weight_decay": 0.01, "init_step": ("distance", 0.01)},
        separable=False,
        runs=(
            {},
            {"init_step": ("distance", 0.1), "weight_decay": 0.1, "eps": 1e-2},
            {"learning_rate": 0.5, "init_step": ("learning_rate", 0.01)},
        ),
        optax=optax.contrib.dog,
    ),
    Entry(
        jopt.dowg,
        settings={"weight_decay": 0.01},
        separable=False,
        runs=({}, {"init_estim_sq_dist": 0.1, "weight_decay": 0.1, "eps": 1e-2}),
        optax=optax.contrib.dowg,
    ),
    Entry(
        jopt.polyak_sgd,
        settings={"learning_rate": 0.1},
        separable=False,
        runs=(
            {},
            {"max_learning_rate": 1e-5, "f_min": 0.5, "variant": "sps+"},
            {"f_min": -1.0, "eps": 10.0},
        ),
        optax=lambda learning_rate, **numbers: optax.polyak_sgd(scaling=learning_rate, **numbers),
    ),
    Entry(
        # Here and below optax divides what decays, not the step.
        jopt.momo,
        settings={"learning_rate": 0.01, "weight_decay": 0.01, "adapt_lower_bound": True},
        separable=False,
        inner_products=("mean_dot", "bound"),
        runs=(
            {},
            {"learning_rate": 1e-5, "beta": 0.5, "lower_bound": -2.0, "weight_decay": 0.1},
            {"lower_bound": -1.0, "weight_decay": 0.1, "adapt_lower_bound": True},
        ),
    ),
    Entry(
        jopt.momo_adam,
        settings={"learning_rate": 0.01, "weight_decay": 0.01, "adapt_lower_bound": True},
        separable=False,
        inner_products=("mean_dot", "bound"),
        runs=(
            {},
            {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "lower_bound": -2.0, "weight_decay": 0.1},
            {"lower_bound": -1.0, "weight_decay": 0.1, "adapt_lower_bound": True},
        ),
    ),
    Entry(
        # Its oracle has a file of its own: it takes second derivatives.
        jopt.sophia,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "update_interval": 2},
    ),
    Entry(
        # Its oracle has a file of its own: it takes second derivatives.
        jopt.adahessian,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "update_interval": 2},
    ),
    Entry(
        # Here without its noise, which is that of `add_noise`: see tests/transforms/test_noise.py.
        jopt.noisy_sgd,
        settings={"learning_rate": 0.01, "weight_decay": 0.01},
        separable=False,  # all leaves draw from one key, each by its path
        quiet={"eta": 0.0},
        still_on_zero_gradient=False,
        runs=({"eta": 0.0, "learning_rate": 0.01, "weight_decay": 0.1},),
    ),
)
