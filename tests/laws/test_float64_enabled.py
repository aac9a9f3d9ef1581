"""Parameters in float32 and less in a session that has enabled float64: nothing becomes wider.

Traced, not compiled; promotion is strict, so a constant without a dtype is an error.
"""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
import pytest

import jopt
from jopt.testing import compare, dtypes
from tests.catalog import CATALOG
from tests.laws.harness import subject
from tests.laws.resume_cases import COMPOSITIONS


def choices(entry):
    """What the catalogue runs an optimizer with, and each of its flags the other way round."""
    default = inspect.signature(entry.factory).parameters.values()
    flags = [{p.name: not p.default} for p in default if isinstance(p.default, bool)]
    narrow = [{"state_dtype": kind} for kind in ("int8", "bfloat16") if entry.compresses]
    runs = [run for run in entry.runs if run.get("ns_dtype") != "float64"]
    found = []
    for on in ({}, *runs, *flags, *narrow):
        try:
            entry.make(**on)
        except jopt.ConfigError:
            continue  # a flag that does not go with the settings
        found.append(on)
    return found


CHOICES = [
    pytest.param(entry, on, id=f"{entry.name}-{on}") for entry in CATALOG for on in choices(entry)
]


@pytest.mark.parametrize(("entry", "on"), CHOICES)
def test_an_optimizer_keeps_every_dtype(entry, on):
    for dtype in ("float32", "bfloat16"):
        dtypes.x64(subject(entry, entry.make(**on)), dtype)


@pytest.mark.sampled
@pytest.mark.parametrize("case", COMPOSITIONS, ids=lambda case: case.name)
def test_a_composition_keeps_every_dtype(case):
    promotion = "standard" if case.name == "foreign" else "strict"  # optax needs the first
    with jax.enable_x64(True), jax.numpy_dtype_promotion(promotion):
        params = case.params()
        state = case.tx.init(params)
        after = jax.eval_shape(
            functools.partial(case.step, first=True), params, state, jnp.int32(1)
        )
        compare.same_aspect("a step", after, (params, state))


def test_nesterov_of_adabelief_and_means_of_a_monitor_keep_theirs():
    for tx in (
        jopt.adabelief(nesterov=True),
        jopt.chain(jopt.monitor(decay=0.9), jopt.sgd(0.1)),
    ):
        jopt.testing.check(tx, laws=["x64"], dtypes=["float32"])
