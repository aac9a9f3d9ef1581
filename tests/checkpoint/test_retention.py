"""A folder of checkpoints: which stay, which is found, what a damaged one and a full disk do."""

import json
import logging
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jopt
from jopt.checkpoint import checkpoints, kept
from tests.checkpoint.helpers import assert_same, fails, trained, transform

NAN, INF = float("nan"), float("inf")


def tree(step):
    return {"x": np.full(50, step, np.float32), "step": step}


def filled(folder, saves, **settings):
    """A folder in which these pairs of step and metric were saved, one after the other."""
    made = jopt.Checkpoints(folder, background=False, **settings)
    for step, metric in saves:
        made.save(step, tree(step), metric=metric)
    return made


def steps(folder):
    """What is there by the disk alone."""
    return sorted(int(name[5:-5]) for name in os.listdir(folder) if name.endswith(".jopt"))


@pytest.mark.parametrize(
    ("settings", "stay"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"keep_last": 2}, [5, 6]),
        ({"keep_last": 9}, [1, 2, 3, 4, 5, 6]),
        ({"keep_best": 1}, [2, 6]),  # of 2 and 4, which are equal, the first; and the last of all
        ({"keep_best": 2}, [2, 4, 6]),
        ({"keep_best": 9}, [1, 2, 4, 5, 6]),  # the third has no metric
        ({"keep_best": 1, "mode": "max"}, [1, 6]),
        ({"keep_last": 2, "keep_best": 1}, [2, 5, 6]),
        ({"every": 3}, [3, 6]),
    ],
)
def test_what_stays(settings, stay, tmp_path):
    saves = zip(range(1, 7), [0.9, 0.2, NAN, 0.2, 0.5, -INF], strict=True)
    made = filled(tmp_path, saves, **settings)
    assert steps(tmp_path) == [entry.step for entry in made.entries] == stay
    for entry in made.entries:
        assert_same(jopt.load(entry.path), tree(entry.step))


METRICS = st.one_of(st.none(), st.sampled_from([NAN, INF, -INF, 0.0, 1.0]), st.floats())


@given(st.lists(METRICS, max_size=8), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_those_that_stay_are_the_best_and_the_last(metrics, last, best, most):
    entries = [kept.Kept(i, str(i), kept.finite(metric)) for i, metric in enumerate(metrics)]
    gone = kept.superfluous(entries, last, best, "max" if most else "min")
    stay = [entry for entry in entries if entry not in gone]
    assert entries[-last:] == stay[-last:]
    known = [e for e in entries if e.metric is not None]
    if known:
        record = (max if most else min)(e.metric for e in known)
        assert next(e for e in known if e.metric == record) in stay
    worst_kept = stay[: -last or None] if len(entries) > last else []
    for entry in worst_kept:
        sign = -1 if most else 1
        better = [e for e in known if sign * e.metric < sign * entry.metric]
        assert len(better) < best


def test_the_newest_is_the_one_saved_last_whatever_its_step(tmp_path):
    made = filled(tmp_path, [(10, 0.1), (20, None), (30, 0.3)], keep_last=3)
    made.save(15, tree(15))  # a run that was taken back to its step 10
    assert [entry.step for entry in made.entries] == [20, 30, 15]
    again = jopt.Checkpoints(tmp_path)
    assert again.newest.step == again.resume().step == 15
    assert (again.best.step, again.best.metric) == (30, 0.3)


def test_a_step_saved_again_is_replaced(tmp_path):
    made = filled(tmp_path, [(1, 0.1), (2, 0.2)], keep_last=2)
    made.save(1, {"x": np.ones(3)}, metric=jnp.float32(0.5))
    assert [(e.step, e.metric) for e in made.entries] == [(2, 0.2), (1, 0.5)]
    assert jopt.load(made.newest.path)["x"].shape == (3,)


def test_a_folder_without_its_index_goes_by_steps(tmp_path, caplog):
    made = filled(tmp_path, [(3, 0.1), (1, 0.2), (2, 0.3)])
    index = tmp_path / "checkpoints.json"
    assert [e["step"] for e in json.loads(index.read_text())["checkpoints"]] == [3, 1, 2]
    junk = [b"{", b"[]", b"\xff", b'{"checkpoints": [{"step": "1", "metric": 2}]}', b'{"a": 1}']
    for data in junk:
        caplog.clear()
        index.write_bytes(data)
        assert [(e.step, e.metric) for e in made.entries] == [(1, None), (2, None), (3, None)]
        assert "cannot be read" in caplog.text
    index.unlink()
    caplog.clear()
    assert made.newest.step == 3
    assert not caplog.records


def test_what_the_index_does_not_know_yet_is_the_newest(tmp_path):
    """As after a kill between the file and the index, and between the index and a removal."""
    made = filled(tmp_path, [(1, 0.5), (2, 0.2)])
    jopt.save(tmp_path / "step_00000003.jopt", tree(3))
    os.unlink(tmp_path / "step_00000001.jopt")
    (tmp_path / "step_4.jopt").write_bytes(b"of somebody else")
    assert [(e.step, e.metric) for e in made.entries] == [(2, 0.2), (3, None)]
    assert made.resume(tree(0)).step == 3


def test_damaged_ones_are_skipped_and_named(tmp_path, caplog):
    made = filled(tmp_path, [(i, None) for i in range(1, 6)], keep_last=4)
    data = bytearray((tmp_path / "step_00000005.jopt").read_bytes())
    data[-40] ^= 1  # one bit
    (tmp_path / "step_00000005.jopt").write_bytes(data)
    (tmp_path / "step_00000004.jopt").write_bytes(data[:100])
    (tmp_path / "step_00000003.jopt").write_bytes(bytes(1000))
    found = made.resume(tree(0))
    assert (found.step, found.path) == (2, tmp_path / "step_00000002.jopt")
    assert_same(found.tree, tree(2))
    assert [path.name for path in found.skipped] == [f"step_0000000{i}.jopt" for i in (5, 4, 3)]
    assert [type(error) for error in found.skipped.values()] == [jopt.DamagedError] * 3
    why = ["do not match their checksum", "it ends within the manifest", "no jopt checkpoint"]
    for record, text, path in zip(caplog.records, why, found.skipped, strict=True):
        assert record.levelno == logging.WARNING
        assert text in record.getMessage()
        assert str(path) in record.getMessage()
    # The run goes on from 2: what is damaged takes the place of nothing that is good.
    made.save(3, tree(3))
    assert steps(tmp_path) == [2, 3]
    assert made.resume().step == 3


def test_where_all_stay_a_damaged_one_does(tmp_path):
    made = filled(tmp_path, [(1, None), (2, None)])
    (tmp_path / "step_00000002.jopt").write_bytes(b"")
    assert made.resume(tree(0)).step == 1
    made.save(3, tree(3))
    assert steps(tmp_path) == [1, 2, 3]


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(tmp_path):
    made = filled(tmp_path, [(1, None), (2, None)])
    for entry in made.entries:
        entry.path.write_bytes(b"\x82")
    text = fails("can be read", made.resume, tree(0))
    assert "step_00000002.jopt: the checkpoint is damaged: it ends after 1 bytes; step" in text


def test_what_does_not_fit_is_an_error_and_no_damage(tmp_path):
    tx = transform()
    state, p = trained(tx)
    made = filled(tmp_path, [])
    made.save(1, state)
    fails("does not fit", made.resume, {"x": 3})
    fails("adamw/mu/more", made.resume, tx.init({**p, "more": jnp.ones(1)}))
    other = jopt.Checkpoints(tmp_path, tx=jopt.sgd(0.1))
    jopt.save(made.newest.path, state, tx=tx)
    fails("another configuration", other.resume, state)
    assert jopt.Checkpoints(tmp_path, tx=tx).resume(tx.init(p)).step == 1


def test_an_empty_folder_gives_like_back(tmp_path):
    made = jopt.Checkpoints(tmp_path / "not" / "there")
    like = {"x": jnp.ones(1)}
    found = made.resume(like)
    assert found.tree is like
    assert (found.step, found.path, found.skipped) == (None, None, {})
    assert (made.entries, made.newest, made.best) == ((), None, None)
    assert made.save(0, like)
    made.close()
    assert steps(tmp_path / "not" / "there") == [0]


def test_what_was_saved_in_the_background_may_be_donated(tmp_path):
    state, p = trained()
    run = {"state": state, "params": p, "rows": [jnp.ones(2), {}, None], "name": "run"}
    data = jopt.to_bytes(run, tx=transform())
    with jopt.Checkpoints(tmp_path, tx=transform()) as made:
        made.save(1, run)
        for leaf in jax.tree.leaves({k: run[k] for k in ("state", "params", "rows")}):
            leaf.delete()
    assert made.newest.path.read_bytes() == data


@pytest.fixture
def held(monkeypatch):
    """Saves do not end before this event is set."""
    event, save = threading.Event(), checkpoints.save

    def late(*args, **kwargs):
        assert event.wait(60)
        return save(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "save", late)
    yield event
    event.set()


def test_a_save_is_not_there_before_it_is_whole(tmp_path, held):
    made = jopt.Checkpoints(tmp_path)
    assert made.save(1, tree(1))
    assert made.entries == ()
    held.set()
    made.wait()
    assert made.newest.step == 1
    made.close()


@pytest.mark.parametrize("call", ["save", "skip", "wait", "close", "resume"])
def test_an_error_in_the_background_is_raised_by_the_next_call(call, tmp_path, monkeypatch, caplog):
    made = jopt.Checkpoints(tmp_path, every=2, keep_last=1)
    made.save(2, tree(2))
    made.wait()
    monkeypatch.setattr(checkpoints, "save", lambda *a, **k: jopt.save(tmp_path / "no" / "x", {}))
    made.save(4, tree(4))
    made._writer.submit(lambda: None).result()  # the thread has done with it
    assert "the checkpoint of step 4 was not saved: " in caplog.text
    calls = {
        "save": lambda: made.save(6, tree(6)),
        "skip": lambda: made.save(7, tree(7)),
        "wait": made.wait,
        "close": made.close,
        "resume": made.resume,
    }
    fails("cannot be written", calls[call])
    monkeypatch.undo()
    assert steps(tmp_path) == [2]  # it has taken nothing along
    assert made.resume().step == 2  # told once
    assert made.save(6, tree(6))
    made.close()
    assert steps(tmp_path) == [6]


def test_an_error_of_the_run_is_not_hidden_by_one_of_a_save(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "save", lambda *a, **k: jopt.save(tmp_path / "no" / "x", {}))

    def run():
        with jopt.Checkpoints(tmp_path) as made:
            made.save(1, tree(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        run()
    (note,) = caught.value.__notes__
    assert note.startswith("The checkpoint before it was not saved: save: ")
    assert "cannot be written" in note


def test_several_processes_are_shown_to_orbax(tmp_path, monkeypatch):
    made = jopt.Checkpoints(tmp_path)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert "orbax.checkpoint.CheckpointManager" in fails("several processes", made.save, 1, {})


def test_arguments_are_checked(tmp_path):
    for wrong in ({"keep_last": 0}, {"keep_best": 1.5}, {"every": 0}, {"mode": "least"}):
        with pytest.raises(jopt.ConfigError):
            jopt.Checkpoints(tmp_path, **wrong)
    made = jopt.Checkpoints(tmp_path)
    for wrong in ({"metric": "x"}, {"metric": jnp.ones(2)}, {"force": 1}):
        with pytest.raises(jopt.ConfigError):
            made.save(1, {}, **wrong)
    with pytest.raises(jopt.ConfigError, match="outside of jit"):
        jax.eval_shape(lambda x: made.save(1, {}, metric=x) or x, jnp.float32(1))
    fails("being traced", jax.eval_shape, lambda x: made.save(1, {"x": x}) or x, jnp.ones(1))
    assert repr(jopt.Checkpoints("runs", keep_last=3, every=5)) == (
        "jopt.Checkpoints('runs', keep_last=3, every=5)"
    )
    (tmp_path / "file").write_text("")
    made = jopt.Checkpoints(tmp_path / "file", background=False)
    fails("A part of the path is a file", lambda: made.entries)
    fails("cannot be made", made.save, 1, {})
