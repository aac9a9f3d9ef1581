"""Compositions drawn at random: optimizers under wrappers, in chains and in routes, some deep.

What a list holds was thought of. Hypothesis draws what nobody wrote down, and shrinks what breaks
to the smallest composition that does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

import jopt
from jopt import schedules as s
from tests.catalog import CATALOG, Entry
from tests.compositions import every_second
from tests.laws.harness import is_sparse

MATRICES = "kernel$|square$"
RATES = (s.cosine(0.01, 20), s.warmup_cosine(0.02, 3, 20), s.wsd(0.01, 2, 10, 5))

LINKS = (
    jopt.clip_by_global_norm(1.0),
    jopt.clip_by_norm(0.5),
    jopt.clip_by_value(0.5),
    jopt.clip_by_unit_norm(1.0),
    jopt.clip_by_block_rms(s.linear(1.0, 0.5, 9)),
    jopt.adaptive_grad_clip(0.3),
    jopt.normalize_by_update_norm(),
    jopt.zero_nans(),
    jopt.centralize(),
    jopt.add_noise(0.01, seed=1),
    jopt.monitor(decay=0.9),
    jopt.trace(0.9),
    jopt.average_updates(0.5),
    jopt.grokfast(),
    jopt.grokfast_ma(window_size=3),
    jopt.identity(),
    jopt.scale(s.linear(1.0, 0.5, 9)),
    jopt.add_decayed_weights(0.01),
)


Wrap = Callable[[jopt.Transform], jopt.Transform]
WRAPS: tuple[Wrap, ...] = (
    lambda tx: jopt.accumulate(tx, every=2),
    lambda tx: jopt.asam(tx),
    lambda tx: jopt.cautious(tx),
    lambda tx: jopt.cautious_decay(tx),
    lambda tx: jopt.conditionally(tx, every_second),
    lambda tx: jopt.ema(tx, decay=0.9),
    lambda tx: jopt.galore(tx, rank=2, update_proj_gap=3),
    lambda tx: jopt.grams(tx),
    lambda tx: jopt.hyperball(tx),
    lambda tx: jopt.lookahead(tx, sync_period=2, momentum=0.9),
    lambda tx: jopt.loss_scale(tx, growth_interval=2),
    lambda tx: jopt.mars(tx),
    lambda tx: jopt.master_weights(tx),
    lambda tx: jopt.mechanize(tx),
    lambda tx: jopt.monitor(tx),
    lambda tx: jopt.sam(tx),
    lambda tx: jopt.schedule_free(tx, 0.01),
    lambda tx: jopt.skip_large_updates(tx, 50.0),
    lambda tx: jopt.skip_nonfinite(tx),
    lambda tx: jopt.skip_spikes(tx, window=3),
    lambda tx: jopt.stable(tx),
    lambda tx: jopt.swa(tx, start=1, every=2),
    lambda tx: jopt.trust_ratio(tx),
)

ENTRIES = tuple(entry for entry in CATALOG if not is_sparse(entry))
EVERYWHERE = tuple(entry for entry in ENTRIES if {0, 1, 2, 3} <= set(entry.ndims))


@st.composite
def optimizers(draw: st.DrawFn, among: tuple[Entry, ...] = ENTRIES) -> jopt.Transform:
    """An optimizer of the catalogue, with some of what all of them take."""
    entry = draw(st.sampled_from(among))
    more: dict[str, Any] = {}
    if "learning_rate" in entry.settings:
        more |= draw(st.sampled_from([{}, *({"learning_rate": rate} for rate in RATES)]))
    if entry.compresses:
        kinds = [{}, {"state_dtype": "bfloat16"}, {"state_dtype": "int8"}]
        more |= draw(st.sampled_from(kinds))
    if entry.skips:
        more |= draw(st.sampled_from([{}, {"skips": True}]))
    tx = entry.make(**more)
    if entry in EVERYWHERE:
        return tx
    return jopt.route(jopt.adamw(0.01), matrices=(MATRICES, tx))


def around(inner: st.SearchStrategy[jopt.Transform]) -> st.SearchStrategy[jopt.Transform]:
    """What is composed of others: wrapped, behind links, or beside another in a route."""
    links = st.lists(st.sampled_from(LINKS), min_size=1, max_size=2)
    return st.one_of(
        st.builds(lambda wrap, tx: _made(lambda: wrap(tx)), st.sampled_from(WRAPS), inner),
        st.builds(lambda row, tx: jopt.chain(*row, tx), links, inner),
        st.builds(
            lambda tx, other: _made(lambda: jopt.route(tx, biases=("bias$", other))),
            inner,
            optimizers(EVERYWHERE),
        ),
    )


compositions = st.recursive(optimizers(), around, max_leaves=3)


def _made(make: Callable[[], jopt.Transform]) -> jopt.Transform:
    """A composition; one that jopt refuses, with what it lacks, is none."""
    try:
        return make()
    except jopt.ConfigError:
        reject()


def unless_taken(hold: Callable[[], None]) -> None:
    """A law, but of a composition in which one route leaves nothing for another."""
    try:
        hold()
    except jopt.GroupError as error:
        if "matches no leaf" not in str(error):
            raise
        reject()
