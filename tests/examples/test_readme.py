"""What the README tells a newcomer to type is what the repository has."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import jax.numpy as jnp
import pytest

import jopt
from tests.examples.runs import ROOT, succeed

README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
QUICKSTART = ROOT / "examples" / "quickstart.py"
COMMANDS = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def distribution(requirement):
    """The name alone: `scikit-learn>=1.5` is `scikit-learn`."""
    return re.match(r"[\w-]+", requirement)[0].lower()


def requirements(extra):
    """All that an extra installs, through the extras that it names."""
    found = []
    for requirement in EXTRAS[extra]:
        if extras := re.fullmatch(r"jopt\[(.+)\]", requirement):
            found += [r for name in extras[1].split(",") for r in requirements(name)]
        else:
            found.append(requirement)
    return found


def test_the_code_is_the_quickstart():
    [shown] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert shown == QUICKSTART.read_text()
    assert len(shown.splitlines()) < 20


def test_the_quickstart_fits_its_line_and_leaves_a_checkpoint(tmp_path):
    out = succeed(QUICKSTART, cwd=tmp_path)
    saved = jopt.load(tmp_path / "line.msgpack")
    assert float(saved["params"]["bias"]) == pytest.approx(1, abs=0.01)
    assert float(saved["params"]["slope"]) == pytest.approx(3, abs=0.05)  # a little is decay
    rates = jopt.hyperparams(saved["state"])["adamw"]
    assert {float(group["learning_rate"]) for group in rates.values()} == {float(jnp.float32(0.01))}
    assert f"'bias': {jnp.asarray(saved['params']['bias'])!r}" in out


def test_there_are_two_commands_and_they_name_what_exists():
    job, tests = COMMANDS
    begin = "python3 -m venv .venv && .venv/bin/pip install -e "
    assert job == f"{begin}'.[examples]' && .venv/bin/python examples/digits.py\n"
    assert tests == f"{begin}'.[test]' && .venv/bin/python -m pytest -n 2\n"
    assert {"examples", "test"} <= set(EXTRAS)
    assert {"pytest", "pytest-xdist"} <= {distribution(r) for r in requirements("test")}


def test_ci_runs_the_readmes_test_command():
    script = ROOT / ".ci" / "run"
    assert COMMANDS[1] in script.read_text().splitlines(keepends=True)
    assert script.stat().st_mode & 0o111, "not executable"


def test_torch_is_pinned_wherever_it_is_asked_for():
    # The tests compare with one torch; a range alone would fetch gigabytes of another build.
    for extra in EXTRAS:
        asked = {r for r in requirements(extra) if distribution(r) == "torch"}
        assert not asked or extra == "torch" or "torch==2.13.0" in asked, extra
        assert asked <= {"torch==2.13.0", "torch>=2.6"}, extra
    assert "torch==2.13.0" in requirements("test")
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        assert set(re.findall(r"(?:pip install|version) torch\S*", text)) <= {
            "pip install torch==2.13.0"
        }
    assert "exactly version 2.13.0" in README


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_an_example_imports_only_what_its_extra_installs(example):
    tree = ast.parse(example.read_text())
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in modules} - {"jopt"} - sys.stdlib_module_names
    installed = packages_distributions()
    extras = re.search(r"pip install 'jopt\[(.+)\]'", ast.get_docstring(tree) or "")
    asked = extras[1].split(",") if extras else ["examples"]  # by its own docstring, if it says so
    needed = [r for extra in asked for r in requirements(extra)]
    allowed = {distribution(r) for r in PROJECT["dependencies"] + needed}
    assert all(allowed & {d.lower() for d in installed[top]} for top in tops), tops


def test_every_link_leads_to_a_file():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(targets) > 5
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_picture_is_small():
    [picture] = re.findall(r"!\[.+?\]\((.+?)\)", README)
    data = (ROOT / picture).read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 150_000
