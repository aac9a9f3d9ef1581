"""Pictures hold the schedule's own numbers, and matplotlib loads only for them."""

import importlib.util
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import jopt
from jopt import plot, schedules

mpl.use("agg")
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_line_is_the_schedule():
    one = schedules.cosine_restarts(1e-3, 10, 2)
    (line,) = plot.schedule(one, 50).get_lines()
    np.testing.assert_array_equal(line.get_xdata(), np.arange(50))
    np.testing.assert_allclose(line.get_ydata(), one(jnp.arange(50)), rtol=1e-6)


def test_a_dict_has_a_legend_and_goes_on_given_axes():
    ax = plt.subplots()[1]
    both = {"cosine": schedules.cosine(1.0, 9), "half": 0.5, "own": lambda t: 1 / (1 + t)}
    assert plot.schedule(both, 10, ax, color="k") is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(both)
    assert [line.get_color() for line in ax.get_lines()] == ["k"] * 3
    assert ax.get_lines()[1].get_ydata().tolist() == [0.5] * 10
    np.testing.assert_allclose(ax.get_lines()[2].get_ydata(), 1 / (1 + np.arange(10)), rtol=1e-6)


def test_a_plateau_is_drawn_against_its_metric():
    one, metric = schedules.plateau(1.0, factor=0.5, patience=1), [3.0, 2.0, 2.0, 2.0, 2.0]
    (line,) = plot.schedule(one, 5, metric=metric).get_lines()
    assert line.get_ydata().tolist() == [1.0, 1.0, 1.0, 1.0, 0.5]
    by_function = plot.values(one, 5, metric=lambda t: jnp.where(t == 0, 3.0, 2.0))
    assert by_function.tolist() == [1.0, 1.0, 1.0, 1.0, 0.5]


@pytest.mark.parametrize(("metric", "found"), [(None, "none"), ([1.0, 2.0], r"shape \(2,\)")])
def test_a_plateau_needs_a_metric_for_each_step(metric, found):
    with pytest.raises(
        jopt.ConfigError, match=f"a plateau is drawn against a metric\n.*\n.*{found}"
    ):
        plot.schedule(schedules.plateau(1.0), 5, metric=metric)


def test_importing_does_not_load_matplotlib_or_torch():
    code = """
import sys, jopt, jopt.plot, jopt.interop.torch
jopt.interop.torch.scheduler("StepLR", 0.1, step_size=3)
assert not {"matplotlib", "torch"} & set(sys.modules)
import matplotlib
assert "matplotlib" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_gallery_shows_every_schedule(tmp_path):
    path = pathlib.Path(__file__).parents[2] / "docs" / "schedules_gallery.py"
    spec = importlib.util.spec_from_file_location("schedules_gallery", path)
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    shown = {one._call.name for drawn in gallery.panels().values() for one in drawn.values()}
    public = {n for n in dir(schedules) if hasattr(getattr(schedules, n), "__wrapped__")}
    assert shown == public
    gallery.draw(tmp_path / "gallery.png")
    assert (tmp_path / "gallery.png").read_bytes()[1:4] == b"PNG"
