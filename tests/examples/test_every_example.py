"""No example goes unrun: the ones without a test file of their own are run here."""

import re

import pytest

from tests.examples.runs import ROOT, succeed

EXAMPLES = ROOT / "examples"
TESTED_ELSEWHERE = {"digits.py": "test_digits.py", "quickstart.py": "test_readme.py"}
TESTED_HERE = {"embedding.py", "optimizers.py"}


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
