"""docs/optax_names.md has every public name of optax once, and what it names of jopt exists."""

import importlib
import pkgutil
import re
from pathlib import Path

import optax
import pytest

import jopt

PAGE = Path(__file__).parents[2] / "docs" / "optax_names.md"
HOW = {"same", "other", "beside", "none"}


def rows():
    """Each row of the page's tables: the module, its names, how they stand, what is said."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith(("| optax |", "| optax.contrib |")):
            module = cells[0].strip("| ")
        elif line.startswith("| `"):
            found.append((module, re.findall(r"`([^`]+)`", cells[0]), cells[1], cells[-1]))
    return found


ROWS = rows()


@pytest.mark.parametrize("module", ["optax", "optax.contrib"])
def test_every_name_has_its_place(module):
    of = importlib.import_module(module)
    # Some of `__all__` optax makes at the first look, and `dir` does not have.
    public = {n for n in (*dir(of), *getattr(of, "__all__", ())) if not n.startswith("_")}
    named = [name for where, names, _, _ in ROWS if where == module for name in names]
    assert sorted(named) == sorted(public)
    assert len(public) >= {"optax": 227, "optax.contrib": 57}[module]
    assert optax.__version__ == "0.2.8"


def test_what_is_said_of_them_is_so():
    for _, names, how, said in ROWS:
        assert how in HOW, names
        dotted = re.findall(r"`(jopt(?:\.\w+)+)", said)
        for name in dotted:
            pkgutil.resolve_name(name)
        if how == "same":
            assert [name for name in names if not hasattr(jopt, name)] == []
        if how == "other":
            assert dotted or "groups=" in said or "nothing to do" in said or "`jax" in said, names
        if how == "none":
            assert said, names
