"""Saved on some devices, loaded onto others: the same state, and mostly the same run."""

import platform
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.catalog import BY_NAME, CATALOG
from tests.processes import environment
from tests.sharding.meshes import distance, identical
from tests.sharding.resume_runs import ADAMW, EIGHT, FOUR, HALF, WHOLE, Layout, Run, moved

ROOT = Path(__file__).parents[2]
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

# Sums over entries (norms, mean squares, inner products, products of matrices) may have another
# order on other devices. All others are equal to the bit.
SUMS = {
    *("adafactor", "apollo", "came", "dog", "dowg", "fromage", "kl_shampoo", "kron", "lamb"),
    *("lars", "lbfgs", "muon", "normuon", "novograd", "polyak_sgd", "shampoo", "soap", "tiger"),
}

# The largest difference after three more steps, in units of a leaf's largest value: of the
# parameters, and of the state. All other sums are held to what last bits of gradients make of it.
AT_MOST = {
    "adafactor": (4e-7, 4e-7),
    "fromage": (4e-7, 0),
    "lamb": (4e-7, 0),
    "lars": (4e-7, 8e-7),
    "lbfgs": (1e-5, 3e-4),
    "muon": (4e-7, 4e-7),
    "novograd": (4e-7, 4e-7),
}

# A loop over at most sixteen entries is unrolled before LLVM takes a choice out of it, which then
# moves the first entry's product out of the block of its sum: the two are not contracted into one
# rounding, as those of the other entries are and as all of a longer loop. Here the rows of a shard
# have sixteen entries on eight devices and 32 on four, and coupled decay has such a product.
UNROLLED = {"adam"}


@pytest.mark.parametrize("name", MOVES)
def test_a_run_goes_on_to_the_bit_in_another_layout(name):
    resumed, whole = moved(ADAMW, *MOVES[name])
    assert identical(resumed, whole)


@pytest.mark.optimized  # the two are programs of their own, and bits are compared
@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_every_optimizer_goes_on_with_half_the_devices(entry):
    """To the bit, or as near as where the last bits of the gradients are others."""
    resumed, whole = moved(entry.make(), EIGHT, FOUR, entry)
    if entry.name not in SUMS | UNROLLED:
        assert identical(resumed, whole)
        return
    if entry.name in AT_MOST:
        of_params, of_state = AT_MOST[entry.name]
        assert distance(resumed["params"], whole["params"]) <= of_params
        assert distance(resumed["state"], whole["state"]) <= of_state
        return
    nudged = Run(entry.make(), EIGHT, entry, nudged=True).whole()
    eps = float(np.finfo(np.float32).eps)
    for part in ("params", "state"):
        rounding = max(distance(nudged[part], whole[part]), eps)
        assert distance(resumed[part], whole[part]) <= 4 * rounding, part


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("name", sorted(UNROLLED))
def test_shards_of_longer_rows_round_alike(name):
    entry = BY_NAME[name]
    resumed, whole = moved(entry.make(), EIGHT, FOUR, entry, wider=2)
    assert identical(resumed, whole)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flag names sets of x86")
@pytest.mark.parametrize("name", sorted(UNROLLED))
def test_shards_of_any_rows_round_alike_where_nothing_is_contracted(name):
    code = f"from tests.sharding.resume_runs import halved; halved({name!r})"
    env = environment(8)
    env["XLA_FLAGS"] += " --xla_cpu_max_isa=AVX"  # which has no contracted operation
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


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
