"""`jopt diff`: what differs, how far, and the exit code."""

import importlib

import numpy as np
import pytest

import jopt
from tests.cli.helpers import jopt_command, report_of, run_of, transform


@pytest.fixture
def other(work):
    """`other.jopt`: the same run with a few things changed."""
    tree = jopt.load("run.jopt")
    tree["params"]["dense"]["w"][1, 2] += 0.5
    tree["state"]["adamw"]["hyperparams"]["default"]["b1"] = np.float32(0.8)
    tree["name"] = "second"
    jopt.save("other.jopt", tree, tx=transform())
    return tree


def test_a_file_does_not_differ_from_itself(work, capsys):
    found = jopt_command(capsys, "diff", "run.jopt", "run.jopt", "--exact")
    assert found == (0, "no difference in 23 leaves\n", "")
    report = report_of(capsys, "diff", "run.jopt", "run.jopt")
    assert report == {
        "a": "run.jopt", "b": "run.jopt", "same": True, "compared": 23,
        "configuration": [], "structure": [], "numbers": [],
    }  # fmt: skip


def test_numbers_that_differ(work, other, capsys):
    report = report_of(capsys, "diff", "run.jopt", "other.jopt", code=1)
    assert (report["same"], report["configuration"], report["structure"]) == (False, [], [])
    name, w, b1 = report["numbers"]
    assert name == {"path": "name", "entries": 1, "differ": 1, "a": "first", "b": "second"}
    x, y = (float(t["params"]["dense"]["w"][1, 2]) for t in (work, other))
    assert w == {
        "path": "params/dense/w", "entries": 12, "differ": 1,
        "max_abs": abs(x - y), "max_rel": abs(x - y) / max(abs(x), abs(y)), "a": None, "b": None,
    }  # fmt: skip
    assert b1["path"] == "state/adamw/hyperparams/default/b1"
    assert (b1["a"], b1["b"], b1["differ"]) == (0.9, 0.8, 1)


def test_the_count_is_a_sentence(work, other, capsys):
    for match, said in (("^name$", "1 of 1 leaf differs"), ("^name$|/b1$", "2 of 2 leaves differ")):
        out = jopt_command(capsys, "diff", "run.jopt", "other.jopt", "--match", match)[1]
        assert out.splitlines()[-1] == said


def test_it_is_symmetric(work, other, capsys):
    there = report_of(capsys, "diff", "run.jopt", "other.jopt", code=1)["numbers"]
    back = report_of(capsys, "diff", "other.jopt", "run.jopt", code=1)["numbers"]
    assert [{**n, "a": n["b"], "b": n["a"]} for n in back] == there


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--match", "dense/w", "--atol", "0.51"], 0),
        (["--match", "dense/w", "--atol", "0.49"], 1),
        (["--match", "/b1$", "--rtol", "0.12"], 0),
        (["--match", "/b1$", "--rtol", "0.10"], 1),
        (["--match", "^state/.*/[mn]u/"], 0),
        (["--rtol", "1", "--atol", "1"], 1),  # a name has no tolerance
    ],
)
def test_tolerances_and_match(work, other, capsys, options, code):
    assert jopt_command(capsys, "diff", "run.jopt", "other.jopt", *options)[0] == code


def test_structure_and_configuration(work, capsys):
    tree = run_of(transform(amsgrad=True))
    del tree["extra"]
    tree["params"]["scale"] = tree["params"]["scale"].astype(np.float16)
    tree["params"]["dense"]["b"] = tree["params"]["dense"]["b"][:3]
    jopt.save("other.jopt", tree, tx=transform(amsgrad=True))
    report = report_of(capsys, "diff", "run.jopt", "other.jopt", code=1)
    assert report["configuration"] == [
        {"at": "adamw/options/amsgrad", "a": "False", "b": "True"},
        {"at": "adamw/slots", "a": "['mu', 'nu']", "b": "['mu', 'nu', 'nu_max']"},
    ]
    found = {(x["problem"], x["path"]): (x["a"], x["b"]) for x in report["structure"]}
    assert found.pop(("only in A", "extra")) == ("an empty dict", "nothing")
    assert found.pop(("shape", "params/dense/b")) == ("(4,)", "(3,)")
    assert found.pop(("dtype", "params/scale")) == ("float32", "float16")
    only = {("only in B", f"state/adamw/nu_max/{p}") for p in ("dense/b", "dense/w", "scale")}
    assert set(found) == only
    (scale,) = report["numbers"]  # the same numbers, but for what float16 cannot hold
    assert scale["path"] == "params/scale"
    assert scale["max_abs"] == abs(scale["a"] - float(np.float16(scale["a"]))) or scale["b"]
    _, out, _ = jopt_command(capsys, "diff", "run.jopt", "other.jopt")
    lines = [line.split() for line in out.splitlines()]
    assert ["adamw/options/amsgrad", "False", "True"] in lines
    assert ["dtype", "params/scale", "float32", "float16"] in lines
    assert report_of(capsys, "diff", "run.jopt", "other.jopt", "--match", "mu/")["same"]


def test_a_number_that_became_scheduled_is_told_as_such(work, capsys):
    jopt.save("plain.jopt", {"state": jopt.adamw(1e-3).init(run_of(jopt.sgd(0.1))["params"])})
    rate = "state/adamw/hyperparams/default/learning_rate"
    report = report_of(capsys, "diff", "run.jopt", "plain.jopt", "--match", "adamw", code=1)
    (found,) = [x for x in report["structure"] if x["path"] == rate]
    assert found == {"problem": "scheduled in A", "path": rate, "a": "a schedule", "b": "a number"}


def test_numbers_that_are_not_finite(work, capsys):
    jopt.save("a.jopt", {"w": np.float32([1, np.nan, np.inf]), "x": float("nan")})
    jopt.save("b.jopt", {"w": np.float32([np.nan, np.nan, np.inf]), "x": float("nan")})
    (found,) = report_of(capsys, "diff", "a.jopt", "b.jopt", "--rtol", "1", code=1)["numbers"]
    assert (found["differ"], found["max_abs"], found["max_rel"]) == (1, "Infinity", "Infinity")


def test_pieces_of_two_widths_are_lined_up(work, capsys, monkeypatch):
    monkeypatch.setattr("jopt.cli.sources.PIECE", 16)
    a = np.arange(35, dtype=np.float32)
    jopt.save("a.jopt", {"w": a.reshape(5, 7), "empty": np.zeros((0, 3))})
    b = a.astype(np.float64).reshape(5, 7)
    b[4, 6] += 1
    jopt.save("b.jopt", {"w": b, "empty": np.zeros((0, 3))})
    (found,) = report_of(capsys, "diff", "a.jopt", "b.jopt", code=1)["numbers"]
    assert (found["entries"], found["differ"], found["max_abs"]) == (35, 1, 1.0)


def test_formats_may_differ(work, capsys):
    assert jopt_command(capsys, "convert", "run.jopt", "run.msgpack")[0] == 0
    assert report_of(capsys, "diff", "run.jopt", "run.msgpack", "--exact")["compared"] == 23


def test_what_cannot_be_compared_is_2(work, capsys):
    code, out, err = jopt_command(capsys, "diff", "run.jopt", "nothing.jopt")
    assert (code, out) == (2, "")
    assert err.startswith("jopt diff: nothing.jopt cannot be read")
    code, _, err = jopt_command(capsys, "diff", "run.jopt", "run.jopt", "--exact", "--rtol", "1")
    assert code == 2
    assert "jopt diff: error: --exact allows no tolerance" in err
    code, _, err = jopt_command(capsys, "diff", "run.jopt", "run.jopt", "--atol", "-1")
    assert code == 2
    assert "argument --atol: '-1' is no number of at least 0" in err


@pytest.mark.parametrize(
    ("a", "b", "options", "code"),
    [
        (0.1, 0.2, [], 1),
        (0.1, 0.2, ["--atol", "0.11"], 0),
        (0.1, 0.2, ["--rtol", "0.4"], 1),
        (3, 4, ["--rtol", "0.25"], 0),
        (2**63, 2**63 + 1, [], 1),
        (1j, 2j, ["--atol", "1"], 0),
        (float("inf"), 1.0, ["--atol", "1e300"], 1),
        (float("nan"), float("nan"), [], 0),
        (0.0, -0.0, [], 0),
        (0.0, -0.0, ["--exact"], 1),
        (True, False, ["--atol", "1"], 1),
    ],
)
def test_numbers_of_python_are_compared_as_arrays_are(work, capsys, a, b, options, code):
    jopt.save("a.jopt", {"x": a})
    jopt.save("b.jopt", {"x": b})
    assert jopt_command(capsys, "diff", "a.jopt", "b.jopt", *options)[0] == code


def test_configurations_of_safetensors_and_orbax(tmp_path, capsys):
    plain, heavy = jopt.sgd(0.1), jopt.sgd(0.1, momentum=0.9, nesterov=True)
    params = {"b": np.ones(2, np.float32), "w": np.ones((2, 3), np.float16)}
    for tx, name in ((plain, "plain"), (heavy, "heavy")):
        for kind in ("safetensors", "orbax"):
            module = importlib.import_module(f"jopt.interop.{kind}")
            module.save(
                tmp_path / f"{name}.{kind}", {"params": params, "state": tx.init(params)}, tx=tx
            )
    for a, b in (("safetensors", "orbax"), ("orbax", "safetensors"), ("safetensors",) * 2):
        words = ("diff", tmp_path / f"plain.{a}", tmp_path / f"heavy.{b}")
        report = report_of(capsys, *words, code=1)
        assert "sgd/options/nesterov" in [x["at"] for x in report["configuration"]]
        assert [x["path"] for x in report["structure"] if x["path"].startswith("params")] == []
        assert report["numbers"] == []
        same = report_of(capsys, "diff", tmp_path / f"plain.{a}", tmp_path / f"plain.{b}")
        assert same["same"]
        assert same["compared"] >= 4
