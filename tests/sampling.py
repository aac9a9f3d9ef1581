"""Which of the tests that run over the whole catalogue the ordinary run takes.

A product of laws, optimizers and dtypes grows with each of them, and so does the time to compile
it. The ordinary run takes one case in `ONE_IN` of every such test, others for the next test, so
that every test runs for some optimizers and every optimizer through some of each room's tests.
`-m slow` has the rest; what stands in `WHOLE` always runs whole.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.catalog import Entry

ONE_IN = 3
FEW = 3  # cases of a test that are not worth choosing from


def sample(items: list[pytest.Item], whole: tuple[str, ...]) -> None:
    """Mark as slow what the ordinary run leaves out; `whole` are beginnings of test ids."""
    products = [i for i in items if _over_the_catalogue(i) and not i.nodeid.startswith(whole)]
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


def _over_the_catalogue(item: Any) -> bool:
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    slow = item.get_closest_marker("slow") is not None
    return not slow and any(isinstance(value, Entry) for value in values)
