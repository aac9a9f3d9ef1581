"""Two programs of one step compared, whose arrays are stored in codes of 8 bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jopt.core import codecs
from jopt.numerics.blocks import spread
from tests.core.helpers import same


def agree(a, b, before=None, ulps=2):
    """Equal codes; numbers equal but for what the compiler contracts to one rounding.

    Which products and sums those are depends on what it fuses: the scale of a block may come
    from a maximum whose operands were rounded once or twice. What is added to a number that was
    larger, `before`, has that one's last place.
    """
    assert jax.tree.structure(a) == jax.tree.structure(b)
    before = b if before is None else before
    for x, y, z in zip(*map(jax.tree.leaves, (a, b, before)), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if x.dtype == jnp.float32:
            x, y, z = map(np.asarray, (x, y, z))
            unit = np.spacing(np.maximum(np.abs(y), np.abs(z)))
            assert (np.abs(x - y) / unit).max(initial=0) <= ulps
        else:
            same(x, y)


def coded(x):
    return isinstance(x, dict) and "scale" in x


def whole(tree):
    """The arrays of a tree that are stored as computed, in order."""
    return [x for x in jax.tree.leaves(tree, is_leaf=coded) if not coded(x)]


def in_codes(state):
    """The arrays of a state that are stored in codes: `{(slot, shape): stored}`."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(state, is_leaf=coded):
        if coded(x):
            ((_, codes),) = ((k, y) for k, y in x.items() if k != "scale")
            found[path[1].key, codes.shape] = x
    return found


def holds_what_was_computed(stored, values, codes_of):
    """The codes are those of `values`, give or take two units in the last place of a sum.

    Of a block that has its largest entry twice, once with either sign, programs that round
    otherwise take one or the other for the scale; so each is held to its own.
    """
    ((_, codes),) = ((k, x) for k, x in stored.items() if k != "scale")
    scale = stored["scale"]
    largest = codecs._scales(values, codecs.BLOCK, signed=True)
    np.testing.assert_array_max_ulp(np.abs(scale), np.abs(largest), maxulp=4)
    last = (
        jnp.abs(values) * 2.0**-22 + spread(jnp.abs(scale), values.shape, codecs.BLOCK) * 2.0**-24
    )
    ends = np.sort([codes_of(values - last, scale), codes_of(values + last, scale)], axis=0)
    assert (ends[0] <= codes).all()
    assert (codes <= ends[1]).all()
