"""The template of a package with an optimizer of its own: its tests, its page, its wheel."""

import shutil
import subprocess
import sys

import pytest

from tests.examples.runs import ROOT
from tests.pages import DOCS, run
from tests.processes import environment

PACKAGE = ROOT / "examples" / "own_optimizer"


def python(*words, cwd, path):
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=environment(PYTHONPATH=f"{ROOT}:{path}"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("chosen", "passed"),
    [("not laws", "3 passed"), pytest.param("laws", "1 passed", marks=pytest.mark.slow)],
)
def test_its_own_tests_pass(chosen, passed, tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "package")
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen)
    assert passed in python(*words, cwd=copy, path="src")


def test_what_its_readme_and_the_page_show_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(PACKAGE / "src")
    for page in (PACKAGE / "README.md", DOCS / "your_own.md"):
        run(page.read_text(), str(page), {"__name__": "__page__"})


@pytest.mark.slow
def test_its_wheel_is_what_one_installs(tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "package")
    build = "import hatchling.build; print(hatchling.build.build_wheel('.'))"
    wheel = copy / python("-c", build, cwd=copy, path=".").split()[-1]
    assert wheel.name == "quasihyperbolic-0.1.0-py3-none-any.whl"
    shown = python("-c", "import quasihyperbolic as q; print(q.qhm(1.0))", cwd=tmp_path, path=wheel)
    assert shown == "quasihyperbolic.qhm(learning_rate=1.0)\n"
