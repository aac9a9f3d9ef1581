"""No example goes unrun: the ones without a test file of their own are run here."""

import re

import pytest

from tests.examples.runs import ROOT, succeed

EXAMPLES = ROOT / "examples"
TESTED_ELSEWHERE = {"digits.py": "test_digits.py", "quickstart.py": "test_readme.py"}
TESTED_HERE = {"embedding.py", "optimizers.py", "torch_to_jax.py"}


def test_every_example_has_a_test():
    found = {path.name for path in EXAMPLES.glob("*.py")}
    assert found == set(TESTED_ELSEWHERE) | TESTED_HERE
    for name in TESTED_ELSEWHERE.values():
        assert (ROOT / "tests" / "examples" / name).exists()


def test_the_embedding_learns_whatever_its_size():
    out = succeed(EXAMPLES / "embedding.py", "--rows", 3000, 300_000, "--steps", 150)
    _, *rows = (line.split() for line in out.splitlines())
    assert [row[0] for row in rows] == ["3,000", "300,000"]
    for *_, first, last, _ in rows:
        assert float(first) == pytest.approx(0.693, abs=0.01)
        assert float(last) < 0.1


def test_the_sweep_draws_every_optimizer(tmp_path):
    out = succeed(EXAMPLES / "optimizers.py", "--steps", 5, "--out", tmp_path)
    *lines, last = out.splitlines()
    assert last == f"picture: {tmp_path / 'optimizers.png'}"
    names = [line.partition(" best loss ")[0] for line in lines]
    assert len(names) == len(set(names)) >= 14
    pattern = r".+? +best loss \d+\.\d{4} at \S+   \(25 rates in [\d.]+ s\)"
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert (tmp_path / "optimizers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("precision", "bound"),
    [pytest.param("float32", 1e-5, marks=pytest.mark.slow), ("float64", 1e-13)],
)
def test_what_torch_began_jopt_ends_as_torch_would_have(precision, bound, tmp_path):
    size = ("--steps", 40, "--batch-size", 16)
    script = EXAMPLES / "torch_to_jax.py"
    out = succeed(script, *size, "--precision", precision, "--out", tmp_path)
    assert out.startswith(
        "jopt goes on at step 20 with\n  jopt.adamw(learning_rate=jopt.schedules."
    )
    at_first, at_most = re.search(r"losses differ by (\S+) at .*, by (\S+) at most", out).groups()
    assert float(at_first) <= float(at_most) <= bound
    assert float(re.search(r"parameters differ by (\S+) of", out)[1]) <= bound
    assert {path.name for path in tmp_path.iterdir()} == {"half.pt", "torch_to_jax.png"}
    picture = (tmp_path / "torch_to_jax.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert out.endswith(f"picture: {tmp_path / 'torch_to_jax.png'}\n")
