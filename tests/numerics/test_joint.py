"""Work that stacks have in common: put together, and apart again."""

import jax.numpy as jnp
import numpy as np

from jopt.numerics import all_of, as_one
from jopt.numerics.joint import _cut, _cut_by_rows


def test_work_that_is_yielded_is_done_once_for_all_stacks():
    seen = []

    def work(of):
        seen.append(of["x"].shape)
        return {"sum": jnp.sum(of["x"], 1), "twice": 2 * of["x"]}

    def run(x):
        first = yield as_one(work), {"x": x}
        second = yield as_one(lambda y: y + 1), first["twice"]
        return first["sum"], second

    xs = [jnp.arange(2.0 * k).reshape(k, 2) for k in (1, 3)]
    found = all_of(run(x) for x in xs)
    assert seen == [(4, 2)]
    for x, (total, more) in zip(xs, found, strict=True):
        np.testing.assert_array_equal(total, x.sum(1))
        np.testing.assert_array_equal(more, 2 * x + 1)


def test_a_run_that_asks_for_nothing_ends_at_once():
    def run(x):
        return x
        yield

    assert all_of([run(1), run(2)]) == [1, 2]
    assert all_of([]) == []


def test_stacks_are_cut_alike_whether_by_matrices_or_by_rows():
    for shape in ((5,), (5, 2), (5, 3, 2), (5, 2, 3, 2)):
        x = jnp.arange(float(np.prod(shape))).reshape(shape)
        for cut in ((0, 2), (2, 3), (3, 5), (4, 4)):
            np.testing.assert_array_equal(_cut_by_rows(x, *cut), _cut(x, *cut))
