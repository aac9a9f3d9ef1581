"""`jopt inspect`: its numbers against NumPy and `jopt.hyperparams`, its tables, what it reads."""

import numpy as np
import pytest

import jopt
from jopt.core.nested import flatten_dict
from tests.cli.helpers import jopt_command, report_of, run_of, transform


def leaf(report, path):
    (found,) = [x for x in report["leaves"] if x["path"] == path]
    return found


def test_the_leaves_are_those_of_the_file(work, capsys):
    report = report_of(capsys, "inspect", "run.jopt")
    flat = {"/".join(p): x for p, x in flatten_dict({**work, "extra": None}).items()}
    assert [x["path"] for x in report["leaves"]] == sorted(flat)
    for found in report["leaves"]:
        value = flat[found["path"]]
        if not hasattr(value, "dtype"):
            continue
        wide = value.astype(np.float64)
        assert found == {
            "path": found["path"],
            "shape": list(value.shape),
            "dtype": value.dtype.name,
            "bytes": value.nbytes,
            "mean": pytest.approx(wide.mean(), rel=1e-15),
            "abs_max": np.abs(wide).max(),
            "nans": 0,
            "infs": 0,
        }
    assert leaf(report, "step") == {
        "path": "step", "shape": None, "dtype": "int", "bytes": 0, "value": 3
    }  # fmt: skip
    assert leaf(report, "extra")["value"] == {}


def test_the_hyperparameters_are_the_numbers_in_force(work, capsys):
    report = report_of(capsys, "inspect", "run.jopt")
    state = work["state"]
    found = {}
    for n in report["hyperparams"]:
        label = n["node"].removeprefix("state/")
        found.setdefault(label, {}).setdefault(n["group"], {})[n["name"]] = n["value"]
    in_force = jopt.hyperparams(state)
    for label, groups in found.items():
        for group, numbers in groups.items():
            for name, value in numbers.items():
                assert np.float32(value) == in_force[label][group][name]
    assert found["adamw"]["no_decay"] == {"weight_decay": 0.0}
    assert found["adamw"]["default"]["b2"] == 0.999  # not 0.9990000128746033
    scheduled = [n["name"] for n in report["hyperparams"] if n["scheduled"]]
    assert scheduled == ["learning_rate"]
    assert report["counts"] == [
        {"node": f"state/{label}", "count": 3, "leaf_counts": 0} for label in sorted(state)
    ]


def test_the_transform_and_the_sizes(work, tmp_path, capsys):
    report = report_of(capsys, "inspect", "run.jopt")
    assert report["transform"]["repr"] == repr(transform())
    assert report["transform"]["config"]["adamw"]["slots"] == ["mu", "nu"]
    assert (report["format"], report["size"]) == ("jopt", (tmp_path / "run.jopt").stat().st_size)
    totals = report["totals"]
    sizes = {f"{s['node']}/{s['slot']}": (s["entries"], s["bytes"]) for s in totals["slots"]}
    assert sizes == {
        "state/adamw/mu": (17, 68),
        "state/adamw/nu": (17, 68),
        "state/adamw/numbers": (12, 48),
        "state/clip_by_global_norm/numbers": (3, 12),
    }
    assert totals["params"] == {"entries": 17, "bytes": 4 * 13 + 2 * 4}
    assert totals["total"]["bytes"] == sum(x["bytes"] for x in report["leaves"]) == 256
    assert totals["state_bytes_per_param"] == 196 / 17


def test_wrapped_states_have_nodes_of_their_own(work, capsys):
    tx = jopt.accumulate(jopt.sgd(0.1, momentum=0.9), every=2)
    jopt.save("wrapped.jopt", run_of(tx)["state"], tx=tx)
    report = report_of(capsys, "inspect", "wrapped.jopt")
    assert {n["node"] for n in report["hyperparams"]} == {"accumulate/inner/sgd"}
    slots = {(s["node"], s["slot"]): s["entries"] for s in report["totals"]["slots"]}
    assert slots["accumulate", "sum"] == slots["accumulate/inner/sgd", "momentum_buffer"] == 17
    assert report["totals"]["params"]["entries"] == 0
    assert report["totals"]["state_bytes_per_param"] is None


def test_leaves_younger_than_the_others_are_counted(work, capsys):
    tx = jopt.adam(0.1)
    params = {"a": np.ones(2, np.float32)}
    _, state = tx.update(params, tx.init(params), params)
    jopt.save("young.jopt", jopt.extend(tx, state, {**params, "b": np.ones(1, np.float32)}))
    report = report_of(capsys, "inspect", "young.jopt")
    assert report["counts"] == [{"node": "adam", "count": 1, "leaf_counts": 1}]


def test_a_state_under_vmap_shows_all_of_a_number(work, capsys):
    state = jopt.sgd(0.1).init({"w": np.ones(2, np.float32)})
    rates = np.float32([0.1, 0.2])
    jopt.save("many.jopt", jopt.set_hyperparams(state, learning_rate=rates))
    report = report_of(capsys, "inspect", "many.jopt")
    (rate,) = [n for n in report["hyperparams"] if n["name"] == "learning_rate"]
    assert rate["value"] == [0.1, 0.2]


def test_what_is_not_finite_stays_json(work, capsys):
    jopt.save("bad.jopt", {"w": np.float32([np.nan, np.inf]), "x": float("nan"), "z": 1j})
    report = report_of(capsys, "inspect", "bad.jopt")
    found = leaf(report, "w")
    assert (found["mean"], found["abs_max"], found["nans"], found["infs"]) == (None, None, 1, 1)
    assert (leaf(report, "x")["value"], leaf(report, "z")["value"]) == ("NaN", "1j")


def test_match_and_sort(work, capsys):
    report = report_of(capsys, "inspect", "run.jopt", "--match", "^params/", "--sort", "bytes")
    assert [x["path"] for x in report["leaves"]] == [
        "params/dense/w", "params/dense/b", "params/scale"
    ]  # fmt: skip
    assert report["totals"]["leaves"] == 23  # of the whole file
    report = report_of(capsys, "inspect", "run.jopt", "--sort", "abs_max")
    largest = [x.get("abs_max", 0.0) for x in report["leaves"]]
    assert largest == sorted(largest, reverse=True)


def test_no_stats_reads_numbers_only(work, tmp_path, capsys):
    data = (tmp_path / "run.jopt").read_bytes()
    place = data.rindex(work["params"]["dense"]["w"].tobytes())
    (tmp_path / "bad.jopt").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    code, out, err = jopt_command(capsys, "inspect", "bad.jopt")
    assert (code, out) == (2, "")
    assert "jopt inspect bad.jopt: the checkpoint is damaged" in err
    report = report_of(capsys, "inspect", "bad.jopt", "--no-stats")
    assert "mean" not in leaf(report, "params/dense/w")
    rates = {n["name"]: n["value"] for n in report["hyperparams"] if n["group"] == "default"}
    assert (rates["b1"], rates["max_norm"]) == (0.9, 1.0)


def test_the_tables(work, capsys):
    code, out, err = jopt_command(capsys, "inspect", "run.jopt", "--match", "b$")
    assert (code, err) == (0, "")
    head, transform_, leaves, numbers, *_ = [
        part.splitlines() for part in out.replace("state/clip", "\nstate/clip").split("\n\n")
    ]
    assert head[0].startswith("run.jopt: jopt ")
    assert transform_ == ["transform", repr(transform())]
    assert leaves[1].split() == [
        *("path", "dtype", "shape", "or", "value", "bytes", "mean", "abs", "max", "NaN", "inf")
    ]
    assert leaves[2].split() == ["params/dense/b", "bfloat16", "(4,)", "8", "1", "1", "0", "0"]
    assert [line.split() for line in numbers[1:]] == [
        ["state/adamw", "default", "no_decay"],
        ["b1", "0.9"],
        ["b2", "0.999"],
        ["eps", "1e-08"],
        ["learning_rate", "0.000997781", "scheduled"],
        ["weight_decay", "0.01", "0.0"],
    ]


def test_a_narrow_terminal_folds_paths_and_cuts_no_number(work, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = jopt_command(capsys, "inspect", "run.jopt", "--match", "hyperparams")
    assert "…" not in out
    table = out.split("\n\n")[2].splitlines()
    width = table[1].index(" dtype")
    paths = "".join(line[:width].strip() for line in table[2:])
    wanted = [x["path"] for x in report_of(capsys, "inspect", "run.jopt")["leaves"]]
    assert paths == "".join(p for p in wanted if "hyperparams" in p)
    whole = {line.rsplit(None, 5)[-5] for line in table[2:] if line.rstrip().endswith("0")}
    assert {"4"} <= whole


def test_other_formats_are_read_too(work, capsys):
    from flax import serialization

    data = serialization.msgpack_serialize({"w": np.float32([1, 3]), "n": {"count": 3}})
    with open("plain.msgpack", "wb") as file:
        file.write(data)
    report = report_of(capsys, "inspect", "plain.msgpack")
    assert (report["format"], report["transform"], report["version"]) == ("flax", None, None)
    assert leaf(report, "w")["mean"] == 2.0


def test_the_folder_of_a_run_says_which_file_is_the_newest(tmp_path, capsys):
    with jopt.Checkpoints(tmp_path / "runs") as kept:
        for step in (3, 1):
            kept.save(step, {"w": np.ones(3)})
    code, _, err = jopt_command(capsys, "inspect", tmp_path / "runs")
    assert code == 2
    assert "as jopt.Checkpoints keeps it" in err
    assert "The newest is step_00000001.jopt." in err
