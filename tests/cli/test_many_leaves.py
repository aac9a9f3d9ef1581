"""Files of very many leaves: a summary, in little time and memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

import jopt
from jopt.cli import output
from jopt.tables.subtrees import subtrees
from jopt.tables.text import SCREEN
from tests.cli.helpers import jopt_command, report_of


def many(layers):
    params = {
        f"layer{i:05}": {"w": np.full((2, 3), i, np.float32), "b": np.full(3, -i, np.float16)}
        for i in range(layers)
    }
    hyperparams = {"default": {"learning_rate": np.float32(0.5)}}
    mu = {k: {name: x.copy() for name, x in layer.items()} for k, layer in params.items()}
    state = {"sgd": {"count": np.int32(7), "hyperparams": hyperparams, "mu": mu}}
    return {"params": params, "state": state, "step": 3}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    tree = many(100)
    tree["params"]["layer00007"]["w"][0, 1] = np.nan
    tree["params"]["layer00008"]["b"][1] = np.inf
    jopt.save(tmp_path / "x.jopt", tree)
    return tmp_path / "x.jopt"


def test_many_leaves_are_shown_by_subtree(path, capsys):
    code, out, err = jopt_command(capsys, "inspect", path)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][-2:] == ["403", "leaves"]
    head = next(i for i, row in enumerate(rows) if row[:2] == ["path", "leaves"])
    table = {row[0]: row[1:] for row in rows[head + 1 : rows.index([], head)]}
    assert set(table) == {
        "params/...", "state/sgd/count", "state/sgd/hyperparams/default/learning_rate",
        "state/sgd/mu/...", "step",
    }  # fmt: skip
    w = np.repeat(np.arange(100.0), 6)
    b = np.repeat(-np.arange(100.0), 3)
    found = np.delete(np.concatenate([w, b]), [7 * 6, 600 + 8 * 3])
    expected = ["200", "2", "dtypes", "900", "3,000", f"{found.mean():.4g}", "99", "1", "1"]
    assert table["params/..."] == expected
    assert table["state/sgd/mu/..."][0] == "200"
    assert table["state/sgd/mu/..."][-4:] == [
        f"{np.concatenate([w, b]).mean():.4g}",
        "99",
        "0",
        "0",
    ]
    assert table["state/sgd/count"] == ["1", "int32", "1", "4", "7", "7", "0", "0"]


def test_all_and_json_have_every_leaf(path, capsys):
    whole = jopt_command(capsys, "inspect", path, "--all")[1].splitlines()
    report = report_of(capsys, "inspect", path)
    assert len(report["leaves"]) == report["totals"]["leaves"] == 403
    for leaf in report["leaves"]:
        (line,) = [x for x in whole if x.split()[:1] == [leaf["path"]] and leaf["dtype"] in x]
        assert f"{leaf['bytes']:,}" in line
    some = report_of(capsys, "inspect", path, "--match", "params/layer00007")
    assert [x["path"][-1] for x in some["leaves"]] == ["b", "w"]
    shown = jopt_command(capsys, "inspect", path, "--match", "params/layer0000[78]")[1]
    assert "subtrees" not in shown


def test_the_order_is_that_of_subtrees_or_leaves(path, capsys):
    out = jopt_command(capsys, "inspect", path, "--sort", "nans")[1]
    rows = [line.split()[0] for line in out.splitlines() if line.startswith(("params", "state"))]
    assert rows[0] == "params/..."
    report = report_of(capsys, "inspect", path, "--sort", "nans")
    assert report["leaves"][0]["path"] == "params/layer00007/w"


def test_long_tables_are_those_that_rich_would_draw(path, capsys, monkeypatch):
    drawn = jopt_command(capsys, "inspect", path, "--all")[1]
    monkeypatch.setattr(output, "DRAWN", 10)
    assert jopt_command(capsys, "inspect", path, "--all")[1] == drawn


def test_a_diff_shows_the_first_rows(path, tmp_path, capsys):
    jopt.save(tmp_path / "y.jopt", many(99))
    words = ("diff", path, tmp_path / "y.jopt")
    out = jopt_command(capsys, *words)[1]
    assert out.count("only in A") == 4
    other = many(100)
    for layer in other["params"].values():
        layer["w"] += 1
    jopt.save(tmp_path / "y.jopt", other)
    code, out, _ = jopt_command(capsys, *words)
    assert code == 1
    assert out.count("\nparams/") == SCREEN
    assert "... and 41 more: --all shows them" in out
    assert jopt_command(capsys, *words, "--all")[1].count("\nparams/") == 101
    assert len(report_of(capsys, *words, code=1)["numbers"]) == 101


@pytest.mark.parametrize(
    ("paths", "most", "expected"),
    [
        (["a"], 5, ["a"]),
        ([""], 5, [""]),
        (["a/x", "a/y", "b"], 5, ["a/x", "a/y", "b"]),
        (["a/x", "a/y", "b"], 2, ["a", "b"]),
        (["a/x", "a/y", "b"], 1, [""]),
        (["a/p/1", "a/p/2", "a/q/1", "b/p/1", "b/q"], 4, ["a/p/1", "a/p/2", "a/q/1", "b"]),
        (["a/0", "a/1", "a/2", "b/0/x", "b/0/y"], 3, ["a", "b/0/x", "b/0/y"]),
    ],
)
def test_subtrees(paths, most, expected):
    split = [tuple(path.split("/")) if path else () for path in paths]
    found = subtrees(split, most)
    assert ["/".join(one.path) for one in found] == expected
    assert [one.start for one in found] == [0, *(one.stop for one in found[:-1])]
    assert found[-1].stop == len(paths)


MEASURED = """
import json, resource, sys, time
from jopt.cli import main
main(["--version"])
before = resource.getrusage(resource.RUSAGE_SELF)
code = main(["inspect", "--color", "never", sys.argv[1]])
after = resource.getrusage(resource.RUSAGE_SELF)
spent = after.ru_utime - before.ru_utime
print(json.dumps([code, spent, (after.ru_maxrss - before.ru_maxrss) * 1024]))
"""


@pytest.mark.slow
def test_time_and_memory(tmp_path):
    jopt.save(tmp_path / "x.jopt", many(60_000))  # 240,000 leaves
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "x.jopt")]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    code, seconds, memory = json.loads(made.stdout.splitlines()[-1])
    assert code == 0
    assert seconds < 30  # of the processor, on a machine that others use too
    assert memory < 140e6
