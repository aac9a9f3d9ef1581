"""docs/format.md suffices: its own reader, which knows nothing of jopt, reads every frozen file."""

import re
from pathlib import Path

import numpy as np
import pytest

from jopt.checkpoint.leaves import flatten
from jopt.core.paths import pointer
from tests.checkpoint.goldens import ALL, path_of
from tests.checkpoint.helpers import assert_same
from tests.checkpoint.hostiles import FOLDER, REFUSED

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
# What it lets pass: limits of jopt's, and the configuration, which it does not look at.
LIMITS = {
    *("path-257-deep", "config-with-keys-of-bytes", "config-with-a-timestamp"),
    *("config-with-an-array", "config-300-deep", "config-is-a-list"),
    *("transform-is-text", "transform-without-config"),
}


@pytest.fixture(scope="module")
def read():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (source,) = [block for block in blocks if "def read(data)" in block]
    assert "jopt" not in re.sub(r'"[^"]*"', "", source)
    assert "flax" not in source
    namespace = {}
    exec(source, namespace)
    return namespace["read"]


@pytest.mark.parametrize("name", ALL)
def test_the_page_s_reader_reads_every_golden_file(read, name):
    golden = ALL[name]
    leaves = read(path_of(name).read_bytes())
    expected = flatten("golden", golden.tree())
    assert leaves.keys() == {pointer(path) for path in expected}
    for path, leaf in expected.items():
        assert_same(leaves[pointer(path)], np.asarray(leaf) if hasattr(leaf, "dtype") else leaf)


def test_the_page_s_reader_refuses_the_hostile_files(read):
    passed = set()
    for name in REFUSED:
        try:
            read((FOLDER / "refused" / name).read_bytes())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        passed.add(name)
    assert passed == LIMITS
