"""What the catalogue of optimizers leaves out: each schedule, each wrapper, each composition.

As data, for laws that hold for all of them. Everything prints as code, so what a list covers can
be read off it: see `factories_in`.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import optax

import jopt
from jopt import schedules as s


def halved(t: Any) -> Any:
    """0.5 every ten steps, as a function of one's own."""
    return 0.5 ** (t / 10)


def every_second(step: Any, **_: Any) -> Any:
    """A condition of one's own."""
    return step % 2 == 0


def halves(updates: Any, *_: Any) -> Any:
    """Updates of one's own."""
    return jax.tree.map(lambda u: u / 2, updates)


SCHEDULES: tuple[s.Schedule, ...] = (
    s.constant(0.1),
    s.constant_factor(0.1, 0.5, 10),
    s.linear(0.1, 0.0, 50),
    s.polynomial(0.1, 50, power=2.0),
    s.exponential(0.1, 0.99),
    s.step(0.1, 10),
    s.multistep(0.1, [10, 20, 20]),
    s.cosine(0.1, 50),
    s.cosine_annealing(0.1, 50, 0.01),
    s.cosine_restarts(0.1, 10, 2),
    s.warmup_cosine(0.1, 10, 50),
    s.cyclic(0.0, 0.1, 7, 3, "triangular2"),
    s.cyclic_momentum(steps_up=7),
    s.onecycle(0.1, 50, three_phase=True),
    s.onecycle_momentum(50),
    s.scaled(0.1, halved),
    s.scaled(0.1, halved, steps=20),
    s.multiplicative(0.1, halved),
    s.multiplicative(0.1, halved, steps=20),
    s.table([0.1, 0.2, 0.05]),
    s.join([s.linear(0.0, 0.1, 10), s.cosine(0.1, 40), 0.01], [10, 40]),
    s.product(0.1, s.step(1.0, 10), halved),
    s.swa(s.exponential(0.1, 0.99), 0.05, 10, start=30),
    s.warmup(s.cosine(0.1, 40), 10),
    s.inverse_sqrt(0.1, 10),
    s.wsd(0.1, 10, 20, 10, anneal="1-sqrt"),
    s.wsd(0.1, 10, 10, 5, anneal="sqrt", cycles=2),
    s.stretched(s.wsd(0.1, 10, 25, 5), 40, 50),
    s.exponential(0.1, 0.5, steps=7, staircase=True, begin=3, end_value=0.01),
    s.piecewise(0.1, [5, 9], [0.2, 0.0], anneal="cosine"),
    s.sgdr([0.1, 0.05], [12, 30], warmup_steps=4),
    s.warmup_constant(0.1, 10),
    s.rectified(0.1, b2=0.99),
)

# Of a metric that never improves: bad at steps 1 and 2, reduced, at rest for four steps.
PLATEAU = s.plateau(0.1, factor=0.5, patience=1, cooldown=4)

ABSENT = "^(late|never|large)$"  # of the trees that they meet, one each at the least
"""Leaves that the cases leave without gradient at times."""

WRAPPERS: dict[str, jopt.Transform] = {
    "accumulate": jopt.accumulate(jopt.adamw(s.cosine(0.1, 50), weight_decay=0.1), every=4),
    "skip_nonfinite": jopt.skip_nonfinite(jopt.adam(PLATEAU, amsgrad=True, skips=ABSENT)),
    "skip_spikes": jopt.skip_spikes(
        jopt.loss_scale(
            jopt.skip_large_updates(jopt.adam(PLATEAU, skips=ABSENT), 50.0), growth_interval=2
        ),
        window=3,
    ),
    "ema": jopt.ema(jopt.sgd(0.05, momentum=0.9), decay=s.linear(0.5, 0.9, 20)),
    "swa": jopt.swa(jopt.adamw(0.01), start=2, every=2),
    "lookahead": jopt.lookahead(
        jopt.schedule_free(jopt.adamw(0.01, b1=0.0, weight_decay=0.1, skips=ABSENT), 0.01),
        sync_period=2,
        slow_step_size=s.linear(0.5, 0.9, 20),
        momentum=0.9,
    ),
    "master_weights": jopt.master_weights(
        jopt.chain(
            jopt.clip_by_global_norm(1.0),
            jopt.adamw(s.cosine(0.01, 20), groups={"cold": jopt.group("^frozen", freeze=True)}),
        )
    ),
    "route": jopt.route(
        jopt.adamw(0.01, skips=ABSENT),
        matrices=("kernel$", jopt.muon(0.02)),
        slow=("bias$", jopt.chain(jopt.clip_by_norm(1.0), jopt.sgd(0.01, momentum=0.9))),
    ),
    "chain": jopt.chain(
        jopt.clip_by_value(2.0),
        jopt.clip_by_norm(s.linear(1.0, 0.5, 20)),
        jopt.clip_by_global_norm(1.0),
        jopt.rmsprop(0.01, momentum=0.9),
        last=jopt.clip_by_value(0.1),
    ),
    "direction": jopt.chain(
        jopt.direction(jopt.adam(amsgrad=True, skips=ABSENT)),
        jopt.add_decayed_weights(0.1),
        jopt.scale_by_learning_rate(s.cosine(0.01, 20)),
    ),
    "links": jopt.chain(
        jopt.zero_nans(),
        jopt.centralize(),
        jopt.adaptive_grad_clip(0.5),
        jopt.clip_by_unit_norm(1.0),
        jopt.clip_by_block_rms(s.linear(1.0, 0.5, 20)),
        jopt.normalize_by_update_norm(),
        jopt.add_noise(0.01, seed=3),
        jopt.monitor(decay=0.9),
        jopt.trace(0.9, nesterov=True),
        jopt.average_updates(0.5),
        jopt.grokfast(decay=0.9, gain=s.linear(0.5, 0.1, 20)),
        jopt.grokfast_ma(gain=0.5, window_size=2),
        jopt.stateless(halves),
        jopt.identity(),
        jopt.scale(s.linear(-0.1, -0.01, 20)),
    ),
    "rows": jopt.route(
        jopt.conditionally(jopt.mars(jopt.adamw(0.01, skips=True)), every_second),
        matrices=("kernel$", jopt.chain(jopt.sgd(0.1), jopt.keep_params_nonnegative())),
        still=("bias$", jopt.set_to_zero()),
    ),
    "searches": jopt.route(
        jopt.sam(jopt.sgd(0.01, momentum=0.9)),
        kernels=(
            "kernel$",
            jopt.chain(
                jopt.direction(jopt.adam()),
                jopt.scale(-1.0),
                jopt.scale_by_backtracking_linesearch(5),
            ),
        ),
        biases=("bias$", jopt.asam(jopt.adam(0.01))),
    ),
    "zoom": jopt.chain(
        jopt.direction(jopt.adam()), jopt.scale(-1.0), jopt.scale_by_zoom_linesearch(5)
    ),
    "stages": jopt.route(
        jopt.cautious(
            jopt.stable(
                jopt.cautious_decay(jopt.adamw(0.01, weight_decay=0.1, skips=ABSENT)),
                max_rms=s.linear(1.0, 0.5, 20),
            ),
        ),
        matrices=("kernel$", jopt.hyperball(jopt.muon(0.02))),
        slow=("bias$", jopt.grams(jopt.trust_ratio(jopt.sgd(0.01, momentum=0.9), form="lars"))),
    ),
    "subspaces": jopt.mechanize(
        jopt.galore(jopt.adamw(s.cosine(1.0, 20), skips=ABSENT), rank=2, update_proj_gap=4)
    ),
    "muon_adamw": jopt.recipes.muon_adamw(
        s.warmup_cosine(0.02, 3, 20),
        also_adamw="^deep$|bias$",
        adamw_groups={"flat": jopt.group("bias$", weight_decay=0.0)},
    ),
    "named": jopt.route(
        jopt.recipes.stable_adamw(0.01),
        matrices=("kernel$", jopt.recipes.ranger(0.01)),
        biases=("bias$", jopt.recipes.schedule_free_radam(0.01)),
    ),
    "scheduled": jopt.adamw(
        s.onecycle(0.1, 20),
        b1=s.onecycle_momentum(20),
        weight_decay=s.cosine(0.1, 20),
        groups={"bias": jopt.group("bias$", learning_rate=s.step(0.1, 4), b2=s.linear(0.9, 1, 30))},
    ),
    "foreign": jopt.chain(jopt.clip_by_global_norm(1.0), optax.adamw(0.01)),
    "nested": jopt.skip_nonfinite(
        jopt.accumulate(
            jopt.chain(
                jopt.clip_by_global_norm(1.0), jopt.ema(jopt.nadam(s.step(0.01, 2)), decay=0.9)
            ),
            every=3,
        )
    ),
    "int8": jopt.accumulate(
        jopt.chain(
            jopt.clip_by_global_norm(1.0),
            jopt.adamw(s.cosine(0.1, 50), amsgrad=True, state_dtype="int8"),
        ),
        every=2,
    ),
    "bfloat16": jopt.skip_nonfinite(
        jopt.ema(jopt.sgd(0.05, momentum=0.9, state_dtype="bfloat16"), decay=0.9)
    ),
    "line_search": jopt.lbfgs(
        line_search="strong_wolfe", max_iter=4, history_size=3, tolerance_change=0.0
    ),
}


def factories_in(shown: str) -> set[str]:
    """The names of the jopt factories that a `repr` calls: `jopt.ema`, `jopt.schedules.step`."""
    return set(re.findall(r"(jopt(?:\.\w+)+)\(", shown))
