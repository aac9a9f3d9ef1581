"""Every public callable, every argument: what is wrong is told, or it is right."""

import contextlib
import dataclasses
import functools
import io

import matplotlib
import pytest

from tests.calls import right
from tests.calls.bent import answer, bent, complete, traced, used
from tests.calls.public import callables


def cases():
    """Each callable as it is called, with its name; what only holds its arguments is left out."""
    for name, f, how in callables():
        home, _, method = name.rpartition(".")
        if how == "method":
            if home in right.SELF and method not in right.INNER:
                yield pytest.param(name, functools.partial(f, right.SELF[home]), id=name)
        elif how == "function" or not plain(f):
            yield pytest.param(name, f, id=name)


def plain(kind):
    """Whether a class only holds what it is given."""
    made = dataclasses.is_dataclass(kind) and not hasattr(kind, "__post_init__")
    return made or issubclass(kind, tuple | dict)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where paths lead to, with the files that calls read; what is printed goes nowhere."""
    monkeypatch.chdir(tmp_path)
    right.files()
    matplotlib.use("agg")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "f"), [*cases()])
def test_every_argument_is_told_or_right(name, f, folder):
    given = right.of(name, f)
    error, made = answer(f, complete(f, given), used)
    assert error is None
    assert not isinstance(made, BaseException) or name in right.REFUSED, made
    raw = []
    for what, wrong in bent(f, given):
        error, _ = answer(f, wrong, used)
        raw += [(what, error)] if error else []
    raw += [(what, error) for what, error in traced(f, given) if error]
    assert not raw, "\n".join(f"{what}: {error}" for what, error in raw)
