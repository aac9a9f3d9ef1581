"""Which cases of a test that runs over many the ordinary run takes.

A product of laws, optimizers and dtypes grows with each of them, and so does the time to compile
it. The ordinary run takes at most `MOST` cases of every test over the catalogue, and of those
marked `sampled`: drawn by the test's name, so that each test takes others and every run the same,
and the time does not grow with the catalogue. `-m slow` has the rest.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.catalog import Entry

MOST = 2


def sample(items: list[pytest.Item], whole: tuple[str, ...]) -> None:
    """Mark as slow what the ordinary run leaves out; tests whose id begins as `whole` are kept."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if _is_product(item) and not item.nodeid.startswith(whole):
            cases.setdefault(_test(item), []).append(item)
    for test, some in cases.items():
        left = max(0, len(some) - MOST)
        for item in random.Random(test).sample(some, left):
            item.add_marker(pytest.mark.slow)


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _is_product(item: Any) -> bool:
    if not hasattr(item, "callspec") or item.get_closest_marker("slow") is not None:
        return False
    over_the_catalogue = any(isinstance(x, Entry) for x in item.callspec.params.values())
    return over_the_catalogue or item.get_closest_marker("sampled") is not None
