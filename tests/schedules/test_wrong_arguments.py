"""Several wrong arguments at once, in every schedule; one at a time they are in `tests/calls`."""

import itertools

import pytest

from jopt import schedules
from tests.calls import right
from tests.calls.bent import answer, complete
from tests.calls.things import THINGS

SWAPPED = ["params", "state", "tx", "text", "yes", "nan"]


def functions():
    for name, f in vars(schedules).items():
        if callable(f) and hasattr(f, "__wrapped__"):
            yield pytest.param(f"jopt.schedules.{name}", f, id=name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "f"), [*functions()])
def test_every_function_tells_what_is_wrong(name, f):
    given = complete(f, right.of(name, f))
    needed = [argument for argument in given if argument not in ("*", "**")][:3]
    raw = []
    for row in itertools.product(SWAPPED, repeat=len(needed)):
        wrong = {argument: THINGS[k] for argument, k in zip(needed, row, strict=True)}
        error, _ = answer(f, {**given, **wrong})
        raw += [(row, error)] if error else []
    assert not raw
