"""What `import jopt` loads, seen from a fresh interpreter: little more than jax."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

import jopt

# Each is loaded by the function that needs it, when it is called.
LAZY = ("flax", "torch", "matplotlib", "optax", "orbax", "rich", "sklearn", "scipy", "safetensors")

# Third-party packages that jopt loads beyond those of jax.
BEYOND_JAX = {"msgpack"}


def loaded_by(code):
    """The modules loaded by `code` in a fresh interpreter, and those it already had."""
    script = f"import sys, json\nbefore = set(sys.modules)\n{code}\n"
    script += "print(json.dumps([sorted(sys.modules), sorted(before)]))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    after, before = json.loads(run.stdout)
    return set(after) - set(before)


def tops(modules):
    return {name.split(".")[0] for name in modules}


@pytest.fixture(scope="module")
def of_jax():
    return loaded_by("import jax")


@pytest.fixture(scope="module")
def of_jopt():
    return loaded_by("import jax, jopt")


def test_import_loads_no_other_library(of_jax, of_jopt):
    assert "jopt" in of_jopt
    assert tops(of_jopt) & (set(LAZY) - tops(of_jax)) == set()


def test_import_loads_hardly_more_than_jax(of_jax, of_jopt):
    # The cost of an import is the modules it loads: these stand for the time, and never vary.
    added = {m for m in of_jopt - of_jax if m.split(".")[0] != "jopt"}
    third_party = tops(added) - set(sys.stdlib_module_names)
    assert {m for m in third_party if not m.startswith("_")} <= BEYOND_JAX
    assert len(added) <= 20, sorted(added)


def test_a_library_that_is_loaded_is_seen():
    assert {"optax", "flax"} <= tops(loaded_by("import jopt, optax, flax")) & set(LAZY)


def test_every_public_room_comes_with_the_package(of_jopt):
    assert {"jopt.schedules.cosine", "jopt.sharding.state"} <= of_jopt


def test_methods_of_minimize_that_few_programs_need_are_imported_when_they_are(of_jopt):
    assert "jopt.minimize.by_pairs" in of_jopt
    assert not {f"jopt.minimize.by_{method}" for method in ("newton", "transform")} & of_jopt


@pytest.mark.parametrize("room", ["checkpoint", "optimizers", "recipes", "transforms", "wrappers"])
def test_a_room_is_imported_when_one_of_its_names_is_asked_for(room, of_jopt):
    assert not {m for m in of_jopt if m.startswith(f"jopt.{room}")}
    assert callable(vars(import_module(f"jopt.{room}"))[name := NAMES[room]])
    assert getattr(jopt, room) is import_module(f"jopt.{room}")
    if room != "recipes":
        assert getattr(jopt, name) is vars(jopt)[name] is vars(import_module(f"jopt.{room}"))[name]


NAMES = {
    "checkpoint": "save",
    "optimizers": "adamw",
    "recipes": "muon_adamw",
    "transforms": "clip_by_global_norm",
    "wrappers": "accumulate",
}


def test_every_name_is_listed_and_there():
    taken = {}
    exec("from jopt import *", taken)
    public = {name for name in dir(jopt) if not name.startswith("_")}
    assert set(NAMES.values()) - {"muon_adamw"} <= public == set(taken) - {"__builtins__"}


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jopt' has no attribute 'adamww'") as found:
        jopt.adamww  # noqa: B018 - to ask for it is the test
    assert (found.value.name, found.value.obj) == ("adamww", jopt)
    assert not hasattr(jopt, "Kept")  # of a room that hands it on, the package does not
    assert not hasattr(jopt, "__wrapped__")


def test_a_tool_that_asks_for_underscores_imports_nothing():
    code = "import jopt\nassert not hasattr(jopt, '__wrapped__')"
    assert not {m for m in loaded_by(code) if m.startswith("jopt.optimizers")}
