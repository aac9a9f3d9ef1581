"""The race: its points, its store, its arithmetic, its page, and one whole run beside a loop."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.benchmarks.race import __main__ as command
from tests.benchmarks.race import points, report, statistics
from tests.benchmarks.race.entrants import BASELINE, ENTRANTS
from tests.benchmarks.race.run import Runner, race
from tests.benchmarks.race.store import FOLDER, Store
from tests.benchmarks.race.task import Task
from tests.benchmarks.race.tasks import TASKS

SLOPE = jnp.array([[1.0, -2.0], [0.5, 3.0]])


def tiny(at_once=2, **others):
    """A noisy quadratic of four numbers, which compiles in a moment."""

    def loss(params, noise):
        return jnp.sum((params["kernel"] - SLOPE) ** 2) + jnp.sum(noise * params["kernel"])

    return Task(
        name="tiny",
        unit="a square",
        data={"numbers": 4},
        init=lambda key: {"kernel": jax.random.normal(key, (2, 2))},
        loss=loss,
        batch=lambda key: 0.1 * jax.random.normal(key, (2, 2)),
        validation=jnp.zeros((1, 2, 2)),
        held_out=jnp.zeros((1, 2, 2)),
        steps=20,
        trials=2,
        seeds=(0, 1, 2),
        at_once=at_once,
        marks=4,
        **others,
    )


@pytest.fixture(autouse=True)
def as_users_have_it():
    """optax counts on dtypes and ranks being promoted."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_the_points_are_those_committed():
    assert points.read() == points.draw()
    # Any eighth of either axis has as many of them as any other.
    for axis in zip(*points.read(), strict=True):
        assert set(np.bincount((8 * np.array(axis)).astype(int), minlength=8)) == {2}
    rate, decay = ENTRANTS["sgd"].at((0.5, 1.0))
    assert rate == pytest.approx((3e-3 * 1.0) ** 0.5)
    assert decay == pytest.approx(1e-1)


def plain(task, rate, decay, seed):
    """AdamW with a warm-up and a cosine, step by step in float64, and the losses at the marks."""
    key = jax.random.key(seed)
    p = np.asarray(task.init(jax.random.fold_in(key, 0))["kernel"], np.float64)
    best = np.asarray(SLOPE, np.float64)
    mu, nu, held, ahead = 0 * p, 0 * p, [], task.steps // 10
    for t in range(task.steps):
        noise = task.batch(jax.random.fold_in(jax.random.fold_in(key, 1), t))
        g = 2 * (p - best) + np.asarray(noise, np.float64)
        down = 0.5 * (1 + np.cos(np.pi * (t - ahead) / (task.steps - ahead)))
        eta = rate * (t / ahead if t < ahead else down)
        mu, nu = 0.9 * mu + 0.1 * g, 0.999 * nu + 0.001 * g**2
        hats = mu / (1 - 0.9 ** (t + 1)), nu / (1 - 0.999 ** (t + 1))
        p = p * (1 - eta * decay) - eta * hats[0] / (np.sqrt(hats[1]) + 1e-8)
        if (t + 1) % (task.steps // task.marks) == 0:
            held.append(np.sum((p - best) ** 2))
    return held


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_race_is_a_plain_loop_at_the_best_point_and_goes_on(at_once, tmp_path, capsys):
    task = tiny(at_once)
    store = Store(task, tmp_path)
    race(store, ["adamw"])
    assert "tiny: adamw done" in capsys.readouterr().err
    lines = (tmp_path / "tiny.jsonl").read_text().splitlines()
    # The task, the environment, what is so of AdamW, two points at two seeds, three seeds.
    assert len(lines) == 3 + 2 * 2 + 3
    tuned = {
        p: np.mean(
            [plain(task, *ENTRANTS["adamw"].at(points.read()[p]), s)[-1] for s in (1000, 1001)]
        )
        for p in range(2)
    }
    assert store.tuned("adamw") == pytest.approx(list(tuned.values()), rel=2e-5)
    best = min(tuned, key=tuned.get)
    assert store.best("adamw") == best
    for seed in task.seeds:
        held = plain(task, *ENTRANTS["adamw"].at(points.read()[best]), seed)
        assert store.rows["adamw", best, seed]["held_out"] == pytest.approx(held, rel=2e-5)

    # A line that was being written when the run ended is run again; nothing else is.
    (tmp_path / "tiny.jsonl").write_text("\n".join([*lines[:-1], lines[-1][:30]]) + "\n")
    again = Store(tiny(at_once), tmp_path)
    missing = again.missing(again.reported("adamw", best))
    assert missing == [("adamw", best, 2)]
    race(again, ["adamw"])
    seconds = {"seconds": 0}
    assert again.rows["adamw", best, 2] | seconds == store.rows["adamw", best, 2] | seconds
    whole = Store(tiny(at_once), tmp_path)
    assert {k: v | seconds for k, v in whole.rows.items()} == {
        k: v | seconds for k, v in store.rows.items()
    }
    runner = Runner(task, "adamw", whole)
    runner.run(whole.trials("adamw"))
    assert runner.program is None  # nothing to compile

    with pytest.raises(SystemExit, match="holds another race: steps: 20 there, 40 here"):
        Store(dataclasses.replace(task, steps=40), tmp_path)


def test_a_control_waits_for_the_one_that_it_is_compared_with(tmp_path, capsys):
    race(Store(tiny(), tmp_path), ["optax_adamw"])
    assert capsys.readouterr().err == "tiny: optax_adamw waits for adamw\n"


def test_an_interval_is_that_of_all_samples_that_can_be_drawn():
    x = np.array([0.3, -1.0, 2.0, 0.7, 0.1])
    means = np.sort([np.mean(drawn) for drawn in itertools.product(x, repeat=5)])
    low, high = np.quantile(means, [0.025, 0.975])
    assert statistics.interval(x) == pytest.approx((low, high), abs=0.03)
    assert statistics.interval(np.ones(5)) == (1.0, 1.0)


@functools.cache
def tasks():
    return [make() for make in TASKS.values()]


def gap_of(*each):
    return statistics.Gap(np.array(each), 2.0)


def test_certain_is_what_all_seeds_say():
    assert gap_of(-1.0, -2.0, -1.5).verdict == "better"
    assert gap_of(1.0, 2.0, 1.5).verdict == "worse"
    assert gap_of(-1.0, -2.0, -1.5, -1.0, 0.01).verdict == "uncertain"
    assert gap_of(-1.0, np.nan).verdict == "diverged"
    assert report.percent(gap_of(-1.0, -1.0)) == "-50.0 % [-50.0, -50.0]"


def result(*curves):
    rows = [{"held_out": list(c), "seconds": 1e-3} for c in curves]
    return statistics.Result("adamw", 1e-3, 0.1, "", rows)


def test_steps_to_a_loss_are_at_the_first_mark_that_has_it():
    of = result((4.0, 2.0, 1.0, 1.5), (4.0, 3.0, 1.0, 1.0))
    assert statistics.steps_to(of, 2.5, 400) == 200
    assert statistics.steps_to(of, 1.25, 400) == 300
    assert statistics.steps_to(of, 0.5, 400) is None
    assert not result((1.0, None)).finite
    assert statistics.apart(of, result((4.0, 2.0, 1.0, 1.0), (4.0, 2.0, 1.0, 1.0))) == (0.5, 0.5)


def test_the_entrants_are_tuned_alike():
    assert set(BASELINE) <= set(ENTRANTS)
    for entrant in ENTRANTS.values():
        low, high = entrant.rates
        assert np.log10(high / low) == pytest.approx(2.5, abs=0.03)
        assert np.log10(entrant.decays[1] / entrant.decays[0]) == pytest.approx(4)
    for task in tasks():
        assert not set(task.tuning_seeds) & set(task.seeds)
        assert len(task.seeds) >= 5
        assert task.trials <= points.COUNT
    assert tasks()[-1].parameters() == 833_280


@pytest.mark.sampled
@pytest.mark.parametrize("name", ENTRANTS)
def test_every_entrant_takes_its_rate_and_decay_from_the_schedules(name):
    def update(rate, decay):
        tx = ENTRANTS[name].make(lambda t: rate, lambda t: decay, tiny())
        params = {"kernel": SLOPE, "head": jnp.ones(3)}
        return tx.update(params, tx.init(params), params)

    shapes = jax.eval_shape(update, jnp.float32(0.1), jnp.float32(0.1))
    assert {k: v.shape for k, v in shapes[0].items()} == {"kernel": (2, 2), "head": (3,)}


def test_the_page_shows_the_results(tmp_path, capsys):
    # Whatever Python this is, part of whose library is the data of a task.
    stores = [Store(task, FOLDER, to_add=False) for task in tasks()]
    text = report.PAGE.read_text()
    assert report.filled(text, report.sections(stores)) == text
    for store in stores:
        assert f"<!-- {store.task.name} -->" in text
        drawn = report.PAGE.parent / "_static" / "race" / f"{store.task.name}.png"
        assert drawn.exists() == (f"_static/race/{store.task.name}.png" in text)
    with pytest.raises(SystemExit):
        command.main(["--tasks", "text"])
    assert "no such name: text; there are quadratic" in capsys.readouterr().err
    assert jopt.__version__ in json.dumps(stores[0].environments)
