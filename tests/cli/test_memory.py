"""A large leaf takes no more memory than a small one."""

import tracemalloc

import numpy as np
import pytest

import jopt
from jopt.cli import main


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.jopt"
    jopt.save(path, {"w": np.ones(2**24, np.float32)})  # 64 MiB
    return str(path)


@pytest.mark.parametrize(
    "words", [["inspect", "FILE"], ["verify", "FILE"], ["diff", "FILE", "FILE"]], ids=lambda w: w[0]
)
def test_the_peak_is_below_the_size_of_a_leaf(large, capsys, words):
    main(["--version"])  # what is imported on first use is no part of the file
    words = [large if word == "FILE" else word for word in words]
    tracemalloc.start()
    try:
        assert main(words) == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6
