"""Which cases of a test that runs over many the ordinary run takes.

A product of laws, optimizers and dtypes grows with each of them, and so does the time to compile
it. The ordinary run takes one case in `ONE_IN` of every test over the catalogue, and of those
marked `sampled`; of the next test others. So every test runs for some optimizers, and every
optimizer through some of each room's tests. `-m slow` has the rest.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.catalog import Entry

ONE_IN = 3
FEW = 3  # cases, of which all are taken


def sample(items: list[pytest.Item], whole: tuple[str, ...]) -> None:
    """Mark as slow what the ordinary run leaves out; tests whose id begins as `whole` are kept."""
    products = [i for i in items if _is_product(i) and not i.nodeid.startswith(whole)]
    sizes = Counter(map(_test, products))
    turns = {test: turn for turn, test in enumerate(sizes)}
    seen: Counter[str] = Counter()
    for item in products:
        test = _test(item)
        if sizes[test] > FEW and (seen[test] + turns[test]) % ONE_IN:
            item.add_marker(pytest.mark.slow)
        seen[test] += 1


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _is_product(item: Any) -> bool:
    if not hasattr(item, "callspec") or item.get_closest_marker("slow") is not None:
        return False
    over_the_catalogue = any(isinstance(x, Entry) for x in item.callspec.params.values())
    return over_the_catalogue or item.get_closest_marker("sampled") is not None
