"""Who runs, and where each is tuned: one space of a learning rate and a decay for all tasks.

Rates and decays are drawn evenly by their logarithms. The rate's range is two and a half decades
around what the authors, or those who use the rule, start from. Decay is decoupled in all,
p·(1 − η·λ), and its range is such that η·λ lies about alike in all. Other numbers are the authors'
or the library's defaults, but for those that `note` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jopt
from tests.benchmarks.race.points import Point, log_between
from tests.benchmarks.race.task import Task

MATRICES = r"(^|/)kernel$"
Number = Callable[[Any], Any]
"""A schedule: whatever is tuned comes as one, so that a program serves all points."""


@dataclass(frozen=True)
class Entrant:
    """An optimizer, and the space that it is tuned in."""

    make: Callable[[Number, Number, Task], Any]
    """The transform, from the schedules of rate and decay."""
    rates: tuple[float, float]
    decays: tuple[float, float]
    note: str = ""
    flat: bool = False
    """Whether the rate stays at its peak after the warm-up, where others fall along a cosine."""
    apart: bool = False
    """Whether runs are trained one after the other: side by side, what a step does under a
    condition, such as a decomposition, would be done at every step."""
    control_of: str | None = None
    """Whose best point it is run at, untuned: its curve should be the same."""

    def at(self, point: Point) -> tuple[float, float]:
        """The rate and the decay at a point of the unit square."""
        return log_between(point[0], *self.rates), log_between(point[1], *self.decays)


ADAM = (3e-4, 1e-1)
DECAY = (1e-4, 1.0)


def adamw(rate: Number, decay: Number, task: Task) -> jopt.Transform:
    """The baseline."""
    return jopt.adamw(rate, weight_decay=decay)


def schedule_free(rate: Number, decay: Number, task: Task) -> jopt.Transform:
    """Schedule-free AdamW, as its authors compose it."""
    inner = jopt.rmsprop(rate, 0.999, bias_correction=True, weight_decay=decay, decoupled=True)
    return jopt.schedule_free(inner, rate, b1=0.9)


def ademamix(rate: Number, decay: Number, task: Task) -> jopt.Transform:
    """With its slow momentum raised along the run, and of a horizon that fits into it."""
    alpha = jopt.schedules.linear(0.0, 5.0, task.steps)
    return jopt.ademamix(rate, b3=0.999, alpha=alpha, weight_decay=decay)


def with_adamw(matrices: Any, rate: Number, decay: Number) -> jopt.Transform:
    """What is for matrices alone, and AdamW with the rate for all the rest."""
    return jopt.route(jopt.adamw(rate, weight_decay=decay), matrices=(MATRICES, matrices))


def muon(rate: Number, decay: Number, task: Task) -> jopt.Transform:
    """Muon with one rate."""
    matrices = jopt.muon(rate, weight_decay=decay, adjust_lr="match_rms_adamw", ns_dtype="float32")
    return with_adamw(matrices, rate, decay)


def muon_jordan(rate: Number, decay: Number, task: Task) -> jopt.Transform:
    """Muon as Jordan has it, whose rate is another than AdamW's."""
    matrices = jopt.muon(rate, weight_decay=decay, kernels="in_out", ns_dtype="float32")
    return with_adamw(matrices, lambda t: 0.15 * rate(t), decay)


def normuon(rate: Number, decay: Number, task: Task) -> jopt.Transform:
    """NorMuon with one rate."""
    matrices = jopt.normuon(
        rate,
        weight_decay=decay,
        adjust_lr="match_rms_adamw",
        kernels="in_out",
        ns_dtype="float32",
    )
    return with_adamw(matrices, rate, decay)


def optax_adamw(rate: Number, decay: Number, task: Task) -> Any:
    """optax's."""
    import optax

    return optax.adamw(rate, weight_decay=decay)


def optax_muon(rate: Number, decay: Number, task: Task) -> Any:
    """optax's Muon in the form with one rate."""
    import jax
    import optax
    from optax.contrib import MuonDimensionNumbers

    def dimensions(params: Any) -> Any:
        def of(path: Any, p: Any) -> Any:
            return MuonDimensionNumbers() if path[-1].key == "kernel" else None

        return jax.tree_util.tree_map_with_path(of, params)

    return optax.contrib.muon(
        rate,
        eps=1e-7,
        weight_decay=decay,
        adam_weight_decay=decay,
        adam_learning_rate=rate,
        muon_weight_dimension_numbers=dimensions,
        consistent_rms=0.2,
    )


ENTRANTS: Mapping[str, Entrant] = {
    "adamw": Entrant(adamw, ADAM, DECAY),
    "adamw_b95": Entrant(
        lambda rate, decay, task: jopt.adamw(rate, b2=0.95, weight_decay=decay),
        ADAM,
        DECAY,
        "b2=0.95; the other half of the baseline's trials",
    ),
    "optax_adamw": Entrant(optax_adamw, ADAM, DECAY, "a control", control_of="adamw"),
    "muon": Entrant(muon, ADAM, DECAY, 'matrices, `adjust_lr="match_rms_adamw"`; else AdamW'),
    "optax_muon": Entrant(optax_muon, ADAM, DECAY, "a control", control_of="muon"),
    "muon_jordan": Entrant(
        muon_jordan, (2e-3, 0.6), DECAY, "matrices; else AdamW with 0.15 of the rate"
    ),
    "normuon": Entrant(normuon, ADAM, DECAY, 'matrices, `"match_rms_adamw"`; else AdamW'),
    "soap": Entrant(
        lambda rate, decay, task: jopt.soap(rate, weight_decay=decay), ADAM, DECAY, apart=True
    ),
    "schedule_free": Entrant(
        schedule_free, (1e-3, 0.3), DECAY, "AdamW's; the rate stays after the warm-up", flat=True
    ),
    "sgd": Entrant(
        lambda rate, decay, task: jopt.sgd(
            rate, momentum=0.9, nesterov=True, weight_decay=decay, decoupled=True
        ),
        (3e-3, 1.0),
        (1e-5, 1e-1),
        "Nesterov's momentum, 0.9",
    ),
    "nadam": Entrant(
        lambda rate, decay, task: jopt.nadam(rate, weight_decay=decay, decoupled=True),
        ADAM,
        DECAY,
    ),
    "lion": Entrant(
        lambda rate, decay, task: jopt.lion(rate, weight_decay=decay), (5e-5, 1.5e-2), (1e-3, 10.0)
    ),
    "adafactor": Entrant(
        lambda rate, decay, task: jopt.adafactor(rate, weight_decay=decay),
        (1e-3, 0.3),
        DECAY,
        "steps relative to parameters",
    ),
    "prodigy": Entrant(
        lambda rate, decay, task: jopt.prodigy(rate, weight_decay=decay, safeguard_warmup=True),
        (0.05, 15.0),
        DECAY,
        "the rate multiplies the one that it finds",
    ),
    "adopt": Entrant(
        lambda rate, decay, task: jopt.adopt(rate, weight_decay=decay, decoupled=True),
        ADAM,
        DECAY,
    ),
    "ademamix": Entrant(ademamix, ADAM, DECAY, "b3=0.999, alpha from 0 to 5 along the run"),
    "mars": Entrant(
        lambda rate, decay, task: jopt.mars(jopt.adamw(rate, 0.95, 0.99, weight_decay=decay)),
        ADAM,
        DECAY,
        "MARS-AdamW, b1=0.95, b2=0.99",
    ),
    "cautious": Entrant(
        lambda rate, decay, task: jopt.cautious(jopt.adamw(rate, weight_decay=decay)),
        ADAM,
        DECAY,
        "cautious AdamW",
    ),
    "shampoo": Entrant(
        lambda rate, decay, task: jopt.shampoo(rate, weight_decay=decay),
        ADAM,
        DECAY,
        "Adam's step length",
        apart=True,
    ),
    "kron": Entrant(
        lambda rate, decay, task: jopt.kron(rate, weight_decay=decay),
        (1e-4, 3e-2),
        (3e-4, 3.0),
        apart=True,
    ),
    "adam_mini": Entrant(
        lambda rate, decay, task: jopt.adam_mini(rate, weight_decay=decay), ADAM, DECAY
    ),
    "apollo": Entrant(
        lambda rate, decay, task: jopt.apollo(rate, rank=task.rank, weight_decay=decay),
        (1e-3, 0.3),
        DECAY,
        "a rank of a quarter of the width",
    ),
    "adamw_int8": Entrant(
        lambda rate, decay, task: jopt.adamw(rate, weight_decay=decay, state_dtype="int8"),
        ADAM,
        DECAY,
        'state_dtype="int8", of arrays of 4096 entries and more',
    ),
}

BASELINE = ("adamw", "adamw_b95")
"""Both are AdamW; the better one of a task, by the tuning, is what others are compared with."""
