"""heavyball's classes, and what takes their steps here; see `references.py`."""

from __future__ import annotations

from typing import Any

import jopt
from tests.oracles.references import Pair

HB = "heavyball:"
PLAIN = {"multi_tensor": False, "compile_step": False, "storage_dtype": "float64"}
"""heavyball without compilation."""
OF_SOAP = {
    "lr": 0.01,
    "betas": (0.95, 0.95),
    "weight_decay": 0.0,
    "merge_dims": False,
    "max_precond_dim": 4,
}
FIVE: dict[str, Any] = {
    "ns_dtype": "float64",
    "ns_coefficients": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}
"""heavyball's polynomials of Newton-Schulz."""

OF_HEAVYBALL = (
    Pair(
        HB + "Muon",
        {
            "lr": 0.02,
            "betas": (0.95, 0.0),
            "weight_decay": 0.1,
            "heavyball_momentum": True,
            **PLAIN,
        },
        lambda: jopt.muon(0.02, weight_decay=0.1, **FIVE),
        ndims=(2,),
    ),
    Pair(
        HB + "Muon",
        {"lr": 0.02, "betas": (0.95, 0.0), "weight_decay": 0.1, "nesterov": False, **PLAIN},
        lambda: jopt.muon(0.02, weight_decay=0.1, nesterov=False, **FIVE),
        ndims=(2,),
    ),
    Pair(
        HB + "Muon",
        {"lr": 0.02, "betas": (0.95, 0.0), "weight_decay": 0.1, **PLAIN},
        lambda: jopt.muon(0.02, weight_decay=0.1, **FIVE),
        ndims=(2,),
        apart="looks ahead by G + B of a mean B; Jordan's G + μ·B is of a sum B",
    ),
    Pair(
        HB + "SOAP",
        {"eps": 1e-16, "precondition_frequency": 1, **OF_SOAP, **PLAIN},
        lambda: jopt.soap(0.01, eps=1e-16, update_every=1, max_size=4, weight_decay=0.0),
        ndims=(2,),
        within=1e-7,  # L + 6e-14·‖L‖·I takes the place of L where bases are renewed
    ),
    Pair(
        HB + "SOAP",
        {"precondition_frequency": 3, **OF_SOAP, **PLAIN},
        lambda: jopt.soap(0.01, update_every=3, max_size=4, weight_decay=0.0),
        ndims=(2,),
        apart="counts the first step, which moves nothing, so that bases are renewed at steps 3, 6 "
        "and so on; after f moves, at 4 and 7, in the authors' code. ε is the least √V, not added",
    ),
    Pair(
        HB + "KLShampoo",
        {"precondition_frequency": 1, "init_factor": 0.1, **OF_SOAP, **PLAIN},
        lambda: jopt.kl_shampoo(
            0.01, b1=0.95, b2=0.95, update_every=1, max_size=4, weight_decay=0.0
        ),
        ndims=(2,),
        apart="d⁻² is the diagonal of QᵀLQ, and L and R are balanced; the authors' is a mean",
    ),
    Pair(
        HB + "AdamW",
        {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1, **PLAIN},
        lambda: jopt.adamw(0.01, 0.9, 0.99, weight_decay=0.1),
        within=1e-4,
    ),
    Pair(
        HB + "AdEMAMix",
        {"lr": 0.01, "alpha": 5.0, "weight_decay": 0.1, **PLAIN},
        lambda: jopt.ademamix(0.01, weight_decay=0.1),
        within=1e-4,
    ),
    Pair(
        HB + "ADOPT",
        {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6, **PLAIN},
        lambda: jopt.adopt(0.01, 0.9, 0.99),
        apart="no bound t^¼ on what is divided, and both means have their bias undone",
    ),
)
