"""n steps, save, a new process, load, m steps: the same bits as n + m steps.

For every optimizer, wrapper and schedule, compiled and with donation. One process of each kind
runs all cases of a batch (`resume_worker.py`); the tests compare what they left behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jopt
from jopt.core.nested import flatten_dict
from tests.checkpoint.helpers import assert_same
from tests.compositions import PLATEAU, SCHEDULES, factories_in
from tests.laws.resume_cases import BATCHES, HALF, SLOW, SPOILED, WHOLE
from tests.processes import environment

ROOT = Path(__file__).parents[2]
CASES = [
    pytest.param(batch, case, id=f"{batch}-{case.name}", marks=[pytest.mark.slow] * (batch in SLOW))
    for batch, cases in BATCHES.items()
    for case in cases
]
each = pytest.mark.parametrize(("batch", "case"), CASES)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What a batch left behind; the first to ask runs it, other pytest workers wait for that."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def of(batch):
        folder = shared / f"resume-{batch}"
        with open(shared / f"resume-{batch}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                folder.mkdir()
                for phase in ("1", "2"):
                    command = ["-m", "tests.laws.resume_worker", phase, batch, str(folder)]
                    done = subprocess.run(
                        [sys.executable, *command],
                        cwd=ROOT,
                        env=environment(cached=phase == "1", PYTHONWARNINGS="error"),
                        capture_output=True,
                        text=True,
                        timeout=600,
                    )
                    Path(folder, f"{phase}.log").write_text(done.stdout + done.stderr)
        return folder

    return of


def said(folder, phase, case):
    """What a process of the batch counted for this case."""
    report = folder / f"report.{phase}.json"
    assert report.exists(), (folder / f"{phase}.log").read_text()
    counted = json.loads(report.read_text())[case.name]
    assert "failed" not in counted, counted["failed"]
    return counted


@each
def test_stopping_in_between_changes_no_bit(batch, case, ran):
    folder = ran(batch)
    said(folder, 1, case)
    said(folder, 2, case)
    half, whole, resumed = (
        jopt.load(folder / f"{case.name}.{name}") for name in ("half", "whole", "resumed")
    )
    assert (half["step"], whole["step"]) == (HALF, WHOLE)
    moved = [a.tobytes() != b.tobytes() for a, b in pairs(half["params"], whole["params"])]
    assert any(moved)
    assert_same(resumed, whole)
    ways = ("resumed", "again", "arrays", *case.also)
    files = {way: (folder / f"{case.name}.{way}").read_bytes() for way in ways}
    expected = (folder / f"{case.name}.whole").read_bytes()
    assert [way for way in ways if files[way] != expected] == []


@each
def test_a_loaded_state_runs_the_program_there_is(batch, case, ran):
    # In the process that saved it, and in one that has compiled a step for the first loaded tree.
    folder = ran(batch)
    before, after = said(folder, 1, case), said(folder, 2, case)
    assert (before["traced_more"], before["compiled_more"]) == (0, 0)
    assert (after["traced"], after["compiled"]) == (1, 1)


@each
def test_a_fresh_state_shares_no_buffer_that_is_donated(batch, case):
    with jax.enable_x64(case.x64):
        params = case.params()
        leaves = [x for x in jax.tree.leaves((params, case.tx.init(params))) if x.size]
        held = [x.unsafe_buffer_pointer() for x in leaves]
    assert len(set(held)) == len(held)


def pairs(a, b):
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


@pytest.mark.parametrize("i", range(len(SCHEDULES) + 1))
def test_every_schedule_goes_on_where_it_stopped(i, ran):
    schedule = (*SCHEDULES, PLATEAU)[i]
    names = ("half", "whole", "resumed")
    states = [jopt.load(ran("compositions") / f"schedules.{n}")["state"]["sgd"] for n in names]
    half, whole, resumed = (s["schedules"][f"s{i}"]["learning_rate"] for s in states)
    assert_same(resumed, whole)
    if schedule is not PLATEAU:
        # What the next step uses: the schedule's value there, up to how jit rounds it.
        assert float(whole["value"]) == pytest.approx(float(schedule(WHOLE)), rel=2e-6)
        assert float(half["value"]) == pytest.approx(float(schedule(HALF)), rel=2e-6)
    else:
        assert int(half["cooldown"]) > 0, "it was saved at rest"
        assert float(whole["value"]) < float(half["value"]) < 0.1


def test_what_was_saved_was_in_the_middle_of_something(ran):
    folder = ran("compositions")
    half = {
        name: flatten_dict(jopt.load(folder / f"{name}.half")["state"])
        for name in ("accumulate", "skip_nonfinite", "nested", "swa", "line_search")
    }
    assert half["accumulate"]["accumulate", "micro"] == HALF % 4 != 0
    assert half["nested"]["skip_nonfinite", "in_a_row"] == 1
    assert half["nested"]["skip_nonfinite", "inner", "accumulate", "micro"] == SPOILED % 3 != 0
    skipped = half["skip_nonfinite"]
    assert skipped["skip_nonfinite", "total"] == skipped["skip_nonfinite", "in_a_row"] == 1
    aged = {path[-1]: int(n) for path, n in skipped.items() if "leaf_count" in path}
    assert aged == {"late": SPOILED - 1, "never": 0}
    assert sum(n for path, n in half["line_search"].items() if "func_evals" in path) > HALF


def test_every_public_factory_is_resumed():
    public = {
        f"jopt.{room}{name}"
        for module, room in (
            (jopt, ""),
            (jopt.recipes, "recipes."),
            (jopt.schedules, "schedules."),
        )
        for name in dir(module)  # which has what is imported when it is asked for
        if hasattr(made := getattr(module, name), "__wrapped__")
        and made.__module__.startswith(f"jopt.{room}"[:-1])
        and name == made.__name__  # another name for one that is there
    }
    assert {"jopt.adamw", "jopt.ema", "jopt.recipes.muon_adamw", "jopt.schedules.wsd"} <= public
    resumed = [case for cases in BATCHES.values() for case in cases]
    covered = set().union(*(factories_in(repr(case.tx)) for case in resumed))
    # Every optimizer goes by one of the doors, whose own call is then replaced by the factory's.
    doors = {f"jopt.{door}" for door in ("leafwise", "matrixwise", "rowwise", "treewise")}
    # What takes gradients by example is no run of these; its key is in tests/transforms.
    assert public - covered == doors | {"jopt.differentially_private"}
