"""Saved on some devices, loaded onto others: the same state, and mostly the same run."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.catalog import CATALOG
from tests.processes import environment
from tests.sharding.meshes import distance, equivalent, identical
from tests.sharding.resume_runs import ADAMW, HALF, WHOLE, Layout, Run

ROOT = Path(__file__).parents[2]
EIGHT, FOUR = Layout(2, 4, "both"), Layout(2, 2, "both")

MOVES = {
    "8-to-4": (EIGHT, FOUR),
    "4-to-8": (FOUR, EIGHT),
    "8-to-1": (EIGHT, Layout(1, 1, "both")),
    "1-to-8": (Layout(1, 1, "both"), EIGHT),
    "other-axes": (Layout(2, 4, "row"), Layout(4, 2, "column")),
    "zero1-to-plain": (Layout(2, 4, "column", zero1=True), Layout(2, 4, "column")),
    "plain-to-zero1": (Layout(2, 4, "column"), Layout(2, 4, "column", zero1=True)),
    "zero1-of-8-to-zero1-of-4": (
        Layout(8, 1, "replicated", zero1=True),
        Layout(4, 1, "replicated", zero1=True),
    ),
}

# Sums over entries (a mean square, inner products, products of matrices) may have another order
# on other devices. The largest difference after three more steps, in units of a leaf's largest
# value: of the parameters, and of the state. All others are equal to the bit.
SUMS = {
    "adafactor": (4e-7, 4e-7),
    "fromage": (4e-7, 0),
    "lamb": (4e-7, 0),
    "lars": (4e-7, 8e-7),
    "lbfgs": (1e-5, 3e-4),
    "muon": (4e-7, 4e-7),
    "novograd": (4e-7, 4e-7),
}


def moved(tx, source, target, entry=None):
    """What was saved, what was loaded, where that ends, where the undisturbed run ends."""
    before, after = Run(tx, source, entry), Run(tx, target, entry)
    half = before.go(before.begin(), 0, HALF)
    data, saved = jopt.to_bytes(half, tx=tx), jopt.state_dict(half)
    whole = jopt.state_dict(before.go(half, HALF, WHOLE))
    loaded = jopt.from_bytes(after.like, data, tx=tx)
    assert equivalent(loaded, {"params": after.where, "state": after.state})
    assert identical(loaded, saved)
    resumed = after.go(loaded, HALF, WHOLE)
    assert equivalent(resumed, {"params": after.where, "state": after.state})
    assert after.traced == 1
    after.go(after.begin(), 0, 1)
    assert after.traced == 1, "a loaded state is another program's than one born there"
    assert not identical(whole["params"], saved["params"])
    return resumed, whole


@pytest.mark.parametrize("name", MOVES)
def test_a_run_goes_on_to_the_bit_in_another_layout(name):
    resumed, whole = moved(ADAMW, *MOVES[name])
    assert identical(resumed, whole)


@pytest.mark.optimized  # the two are programs of their own, and bits are compared
@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_every_optimizer_goes_on_with_half_the_devices(entry):
    resumed, whole = moved(entry.make(), EIGHT, FOUR, entry)
    of_params, of_state = SUMS.get(entry.name, (0, 0))
    assert distance(resumed["params"], whole["params"]) <= of_params
    assert distance(resumed["state"], whole["state"]) <= of_state
    assert identical(resumed, whole) or entry.name in SUMS


def test_a_norm_is_summed_in_another_order():
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), ADAMW)
    resumed, whole = moved(tx, EIGHT, FOUR)
    eps = float(np.finfo(np.float32).eps)
    assert distance(resumed, whole) <= 8 * eps


def test_a_process_with_four_devices_goes_on_where_eight_stopped(tmp_path):
    run = Run(ADAMW, EIGHT)
    half = run.go(run.begin(), 0, HALF)
    jopt.save(tmp_path / "half", half, tx=ADAMW)
    whole = run.go(half, HALF, WHOLE)
    done = subprocess.run(
        [sys.executable, "-m", "tests.sharding.resume_runs", tmp_path / "half", tmp_path / "end"],
        cwd=ROOT,
        env=environment(4),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    end = jopt.load(tmp_path / "end")
    assert end.pop("devices") == 4
    assert end.pop("step") == WHOLE
    assert identical(end, jax.tree.map(jnp.asarray, whole))
