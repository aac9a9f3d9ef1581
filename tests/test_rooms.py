"""The rooms and the doors between them: who may import whom, read from the source."""

import ast
import functools
from pathlib import Path

import pytest

import jopt

ROOT = Path(jopt.__file__).parent
LONGEST = 300

# What each room may import besides itself and `base`, which imports nothing of jopt.
MAY_IMPORT = {
    "base": set(),
    "numerics": set(),
    "schedules": {"numerics"},
    "core": {"numerics"},
    "transforms": {"core", "numerics"},
    "wrappers": {"core", "numerics"},
    "optimizers": {"transforms", "core", "numerics"},
    "recipes": {"schedules", "optimizers", "wrappers", "transforms", "core", "numerics"},
    "minimize": {"core", "numerics"},
    "checkpoint": {"core"},
    "interop": {"core", "checkpoint", "schedules", "optimizers", "numerics"},
    "sharding": {"core"},
    "testing": {"core", "checkpoint", "numerics"},
    "plot": {"schedules"},
    "find_learning_rate": {"plot", "core", "numerics"},
    "tables": {"core"},
    "cli": {"core", "checkpoint", "interop", "plot", "tables"},
    "__main__": {"cli"},
}


def sources(root=ROOT):
    """`{dotted name: source}` of every module under `root`, which stands for the package jopt."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = ("jopt", *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def room(module):
    """The room of a module; the package itself is the room ``."""
    return module.split(".")[1] if "." in module else ""


@functools.cache
def importing(source):
    """Whatever may import something, wherever in the file it stands."""
    found = (ast.Import, ast.ImportFrom)
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, found)
        or (isinstance(node, ast.Call) and "import" in ast.unparse(node.func))
    ]


def imports(module, source, known):
    """Every module of jopt that `source` imports."""
    for node in importing(source):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import, line {node.lineno}"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in inner]
        else:
            names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        yield from (n for n in names if isinstance(n, str) and n.split(".")[0] == "jopt")


def wrong_edges(modules):
    """The imports that the table does not allow."""
    wrong = []
    for module, source in modules.items():
        here = room(module)
        for target in imports(module, source, modules):
            there = room(target)
            if here and there not in {here, "base", *MAY_IMPORT.get(here, ())}:
                wrong.append(f"{module} imports {target}")
    return sorted(set(wrong))


def cycle(modules):
    """The modules of one import cycle, in order; empty if there is none."""
    edges = {m: sorted(set(imports(m, s, modules))) for m, s in modules.items()}
    done, path = set(), []

    def visit(module):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done or module not in edges:
            return []
        path.append(module)
        for target in edges[module]:
            if found := visit(target):
                return found
        done.add(path.pop())
        return []

    return next((found for m in edges if (found := visit(m))), [])


def test_every_module_is_in_a_room_of_the_table():
    assert {room(m) for m in sources()} - {""} <= set(MAY_IMPORT)


def test_the_table_itself_runs_one_way():
    order = list(MAY_IMPORT)
    for here, allowed in MAY_IMPORT.items():
        assert here not in allowed
        later = {there for there in allowed if order.index(there) > order.index(here)}
        assert later == set(), f"{here} imports what comes after it"


def test_imports_follow_the_table():
    assert wrong_edges(sources()) == []


def test_no_import_cycles():
    assert cycle(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("jopt.core.tree", "from jopt.optimizers import adamw"),
        ("jopt.core.tree", "import jopt.checkpoint"),
        ("jopt.core.tree", "from jopt import schedules"),
        ("jopt.core.tree", "def f():\n    from jopt.transforms.clip import clip_by_norm"),
        ("jopt.core.tree", "import importlib\nimportlib.import_module('jopt.wrappers')"),
        ("jopt.numerics.norms", "import jopt.core.tree as tree"),
        ("jopt.numerics.norms", "import jopt"),
        ("jopt.sharding.state", "from jopt import adamw"),
        ("jopt.base.errors", "from jopt.numerics import norm"),
        ("jopt.schedules.cosine", "from typing import TYPE_CHECKING\nimport jopt.core.spec"),
    ],
)
def test_a_planted_edge_is_caught(module, line):
    modules = sources()
    before = set(wrong_edges(modules))
    modules[module] += f"\n{line}\n"
    (planted,) = set(wrong_edges(modules)) - before
    assert planted.startswith(f"{module} imports jopt")


def test_a_planted_cycle_is_caught():
    modules = sources()
    modules["jopt.core.tree"] += "\nfrom jopt.core.spec import Spec\n"
    modules["jopt.core.spec"] += "\nfrom jopt.core.tree import Layout\n"
    found = cycle(modules)
    assert found[0] == found[-1]
    assert {"jopt.core.tree", "jopt.core.spec"} <= set(found)


def test_files_stay_short():
    long = {m: n for m, s in sources().items() if (n := len(s.splitlines())) >= LONGEST}
    assert long == {}


def exports(source):
    """The names that a module hands on: `from x import y as y`, and how each is written."""
    body = ast.parse(source).body
    # What is imported when it is asked for stands there for checkers of types.
    typed = [n for n in body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    for node in [*body, *(n for block in typed for n in block.body)]:
        if isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                if alias.name == "*":  # all that the room exports
                    yield from exports(sources()[node.module])
                elif not (alias.asname or alias.name).startswith("_"):
                    yield alias.asname or alias.name, alias.asname == alias.name


def optimizer_files():
    return {m: s for m, s in sources().items() if m.startswith("jopt.optimizers.")}


def test_an_optimizer_is_a_file_of_its_own_name():
    exported = dict(exports(sources()["jopt.optimizers"]))
    for module, source in optimizer_files().items():
        name = module.rsplit(".", 1)[1]
        functions = {n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)}
        assert name in functions, f"{module} has no function {name}"
        assert name in exported, f"jopt.optimizers does not export {name}"
        assert callable(getattr(jopt, name)), f"jopt does not export {name}"


def test_no_optimizer_imports_another():
    modules = sources()
    for module, source in optimizer_files().items():
        others = [t for t in imports(module, source, modules) if room(t) == "optimizers"]
        assert others == [], module


def test_public_names_are_exported_as_themselves():
    modules = sources()
    packages = [m for m in modules if (ROOT / Path(*m.split(".")[1:]) / "__init__.py").is_file()]
    renamed = {
        f"{module}: {name}"
        for module in packages
        for name, itself in exports(modules[module])
        if not itself
    }
    assert renamed == set()
    declared = {name for name, _ in exports(modules["jopt"])}
    public = {name for name in dir(jopt) if not name.startswith("_")}
    assert public - set(MAY_IMPORT) == declared - set(MAY_IMPORT)


ALIKE = 6


def code_of(source):
    """The lines of a module but for imports and docstrings, each statement's head one line."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            told = ast.get_docstring(node) is not None
            node.body = node.body[1:] if told else node.body
            node.body = node.body or [ast.Pass()]
    tree.body = [n for n in tree.body if not isinstance(n, ast.Import | ast.ImportFrom)]
    return [line.strip() for line in ast.unparse(tree).splitlines() if line.strip()]


def twice(modules):
    """Runs of so many lines of code that stand in two of the modules, with those."""
    at = {}
    for module, source in modules.items():
        lines = code_of(source)
        for i in range(len(lines) - ALIKE + 1):
            at.setdefault(tuple(lines[i : i + ALIKE]), set()).add(module)
    return {run: found for run, found in at.items() if len(found) > 1}


def test_no_six_lines_of_optimizers_stand_twice():
    assert twice(optimizer_files()) == {}


def test_a_planted_copy_is_caught():
    files = optimizer_files()
    files["jopt.optimizers.copied"] = files["jopt.optimizers.sgd"].replace("sgd", "copied")
    assert {m for found in twice(files).values() for m in found} == {
        "jopt.optimizers.copied",
        "jopt.optimizers.sgd",
    }
