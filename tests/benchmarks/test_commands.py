"""The commands, on a tree that is small enough to compile and run here."""

import importlib.util
import json

import jax
import pytest

from tests.benchmarks import compiled, gpu, pictures, reports, starting, targets, times
from tests.benchmarks.trees import TREES, nbytes, size, values


@pytest.fixture(autouse=True)
def lenient_promotion():
    """optax counts on dtypes and ranks being promoted."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(
    ("tree", "leaves", "numbers"),
    [("A", 145, 91_309_056), ("A stacked", 13, 91_309_056), ("B", 577, 155_410_432)],
)
def test_the_trees(tree, leaves, numbers):
    shapes = TREES[tree]()
    assert len(jax.tree.leaves(shapes)) == leaves
    assert size(shapes) == numbers
    assert nbytes(shapes) == 4 * numbers
    tiny = TREES["tiny"]()
    assert jax.tree.structure(values(tiny)) == jax.tree.structure(tiny)


def test_a_missing_compiler_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "libtpu" else found(name)
    )
    here, missing = targets.available(["cpu", "tpu"])
    assert here == ["cpu"]
    assert missing == {"tpu": "libtpu is not installed: pip install 'jopt[bench-tpu]'"}


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        compiled.main(["--cases", "adamw,adam"])
    assert "no such name: adam; there are adamw, clip+adamw" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["--steps", "6"])
    assert "--steps must be a multiple of 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("case", "by", "state", "loops"),
    [
        # Two slots of four bytes and a handful of scalars; accumulate has a third.
        ("adamw", {"jopt", "optax"}, 8, 0),
        pytest.param(
            "accumulate", {"jopt", "jopt, update", "optax"}, 12, 2, marks=pytest.mark.slow
        ),
    ],
)
def test_compiled_prints_writes_and_draws(case, by, state, loops, tmp_path, capsys):
    out = tmp_path / "out" / "compiled.json"
    given = ["--targets", "cpu", "--cases", case, "--tree", "tiny"]
    compiled.main([*given, "--json", str(out), "--pictures", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.startswith("| this CPU | by | kernels | bytes/number | state | temporary |")
    written = json.loads(out.read_text())
    assert written["environment"]["optax"]
    rows = {r["by"]: r for r in written["rows"]}
    assert set(rows) == by
    assert rows["jopt"]["case"] == case
    assert rows["jopt"]["state"] == pytest.approx(state, abs=0.01)
    assert rows["jopt"]["loops"] == loops
    assert (tmp_path / "compiled-cpu.png").read_bytes().startswith(b"\x89PNG")
    again = tmp_path / "again"
    pictures.main([str(out), str(again)])
    assert capsys.readouterr().out == f"{again / 'compiled-cpu.png'}\n"


def test_counts_go_into_the_file_that_is_there(tmp_path, capsys):
    out = tmp_path / "compiled.json"
    here = {"target": "cpu", "tree": "tiny", "by": "jopt"}
    rows = [here | {"case": "masters", "kernels": 1}, here | {"case": "adamw", "kernels": 2}]
    reports.write(out, rows)
    given = ["--targets", "cpu", "--cases", "adamw", "--tree", "tiny", "--json", str(out)]
    compiled.main([*given, "--counts", "--by", "jopt"])
    head = "| this CPU | by | kernels | bytes/number | state | temporary | loops |\n"
    assert capsys.readouterr().out.startswith(head)
    new, kept = reports.read(out)
    assert kept == rows[0]
    assert set(new) == {*here, "case", "kernels", "bytes", "state", "temporary", "loops"}
    assert new["case"] == "adamw"
    assert new["kernels"] > 25


def test_times_prints_and_writes(tmp_path, capsys):
    out = tmp_path / "times.json"
    times.main(["--tree", "tiny", "--rounds", "2", "--json", str(out)])
    printed = capsys.readouterr().out
    assert "| update | by | ms a step |" in printed
    assert "| clip+adamw | seconds / torch's |" in printed
    rows = json.loads(out.read_text())["rows"]
    assert {(r["case"], r["by"]) for r in rows} == {
        (case, by)
        for case, all_of in {
            "adamw": ("jopt", "optax", "torch"),
            "clip+adamw": ("jopt", "optax", "torch"),
            "dispatch": ("jopt", "optax"),
        }.items()
        for by in all_of
    }
    assert all(r["seconds"] > 0 for r in rows)


@pytest.mark.parametrize("case", ["adamw", pytest.param("accumulate", marks=pytest.mark.slow)])
def test_the_gpu_run_works_on_what_is_here(case, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    given = ["--tree", "tiny", "--cases", case, "--rounds", "1", "--steps", "4"]
    gpu.main([*given, "--copy", "1024", "--json", str(out)])
    printed = capsys.readouterr().out
    assert printed.startswith("A copy moves ")
    assert "| by | device ms | called ms | bytes/number | GB/s | of a copy's |" in printed
    rows = {(r["case"], r["by"]): r for r in json.loads(out.read_text())["rows"]}
    assert set(rows[case, "optax"]) == {"target", "tree", "case", "by", *gpu.COLUMNS}


def test_a_copy_moves_every_number_twice():
    assert gpu.copied(4096).bytes == pytest.approx(2 * 4 * 4096, abs=64)


def test_steps_in_a_loop_move_what_a_step_moves():
    # The gradients stay the same from turn to turn, but their norm is taken at each of them.
    case = compiled.CASES["clip+adamw"]
    step, tree = case.steps["jopt"](), TREES["tiny"]()
    alone = compiled.row(step, tree, [compiled.compiled(step, tree, "cpu")])
    assert gpu.stepped(step, tree).bytes / size(tree) == pytest.approx(alone["bytes"], rel=0.02)


def test_what_starting_costs_is_compared_by_dtype():
    found = {"float32": dict.fromkeys(starting.COLUMNS, 0.5), "int8": {"trace": 2.0}}
    found["int8"] |= {"compile": 1.0, "step": 1.5}
    assert starting.table(found).splitlines()[2:] == [
        "| trace | 0.5 | 2 | 4 |  |",
        "| compile | 0.5 | 1 | 2 | 2.50 |",
        "| step | 0.5 | 1.50 | 3 | 2 |",
    ]
