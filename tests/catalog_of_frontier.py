"""The entries of optimizers that neither torch nor optax has, behind those of `catalog.py`."""

from __future__ import annotations

import jopt
from tests.entry import Entry

OF_FRONTIER: tuple[Entry, ...] = (
    Entry(
        jopt.tiger,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=(
            {},
            {"learning_rate": 0.1, "b1": 0.5, "weight_decay": 0.1, "min_scale": 2.0},
            {"relative": False},
        ),
    ),
    Entry(
        jopt.adabound,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "gamma": 0.1, "amsbound": True},
        runs=(
            {},
            {"gamma": 0.1, "weight_decay": 0.1},
            {"b1": 0.5, "b2": 0.9, "final_learning_rate": 1e-2, "gamma": 0.5, "amsbound": True},
        ),
    ),
    Entry(
        jopt.adam_mini,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        runs=({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ),
    Entry(
        jopt.came,
        settings={"learning_rate": 0.01, "weight_decay": 0.1},
        complex=False,
        runs=(
            {},
            {"b1": 0.5, "b2": 0.9, "b3": 0.99, "weight_decay": 0.1},
            {"eps1": 1e-3, "eps2": 1e-2, "clipping_threshold": 0.5},
        ),
    ),
    Entry(
        jopt.apollo,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "rank": 2, "update_every": 2},
        complex=False,
        runs=(
            {"rank": 2, "update_every": 7, "weight_decay": 0.1},
            {"rank": 1, "per": "tensor", "scale": 128.0, "max_growth": None, "seed": 3},
        ),
    ),
    Entry(
        # One-sided, of matrices that one gradient fills: the basis of what none has touched is
        # rounding's, and another for every program.
        jopt.soap,
        settings={
            "learning_rate": 0.01,
            "weight_decay": 0.1,
            "update_every": 2,
            "one_sided": True,
        },
        complex=False,
        ndims=(0, 1, 2),
        runs=(
            {
                "b1": 0.5,
                "b2": 0.9,
                "b3": 0.8,
                "update_every": 3,
                "max_size": 4,
                "weight_decay": 0.1,
            },
            {"learning_rate": 0.01, "one_sided": True, "update_every": 1, "eps": 1e-3},
        ),
    ),
    Entry(
        jopt.kl_shampoo,
        begins_at_once=False,
        settings={"learning_rate": 0.01, "weight_decay": 0.0, "update_every": 2},
        complex=False,
        ndims=(2,),
        runs=(
            # A 3×6 gradient has no one basis of its longer side.
            {"learning_rate": 0.01, "update_every": 3, "max_size": 5, "weight_decay": 0.1},
            {"b1": 0.5, "b2": 0.9, "max_size": 3, "init_scale": 0.3, "largest_scale": None},
        ),
    ),
    Entry(
        jopt.normuon,
        settings={"learning_rate": 0.02, "weight_decay": 0.1},
        complex=False,
        ndims=(2,),
        runs=(
            {"ns_dtype": "float64"},
            {
                "ns_dtype": "float64",
                "ns_coefficients": "polar_express",
                "kernels": "in_out",
                "nesterov": False,
                "adjust_lr": "spectral",
                "momentum": 0.5,
                "b2": 0.9,
            },
        ),
    ),
    Entry(
        jopt.dion2,
        settings={"learning_rate": 0.02, "weight_decay": 0.1},
        complex=False,
        ndims=(2,),
        runs=(
            {"ns_dtype": "float64"},
            {
                "ns_dtype": "float64",
                "ns_coefficients": ((3.0, -3.2, 1.2), (1.5, -0.5, 0.0)),
                "ns_steps": 2,
                "fraction": 0.6,
                "adjust_lr": None,
                "momentum": 0.5,
                "weight_decay": 0.1,
            },
        ),
    ),
    Entry(
        jopt.shampoo,
        settings={
            "learning_rate": 0.01,
            "weight_decay": 0.1,
            "update_every": 2,
            "ridge": 1e-2,
            "block_size": 4,
        },
        complex=False,
        runs=(
            {
                "b1": 0.5,
                "b2": 0.9,
                "block_size": 2,
                "start": 2,
                "update_every": 4,
                "ridge": 1e-3,
                "weight_decay": 0.1,
            },
        ),
    ),
    Entry(
        jopt.kron,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "update_probability": 0.5},
        complex=False,
        runs=(
            {
                "b1": 0.5,
                "preconditioner_rate": 0.2,
                "update_probability": 0.7,
                "seed": 3,
                "init_scale": 0.1,
                "weight_decay": 0.1,
                "diagonal": "one",
            },
        ),
    ),
)
