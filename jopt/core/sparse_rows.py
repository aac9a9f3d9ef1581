"""Row-sparse gradients: a few rows of a large table, and rules that touch only those.

The gradient is a `jax.experimental.sparse.BCOO` with one sparse axis, the first; duplicates
are added up. The door gathers those rows of the slots and the parameter, applies a leafwise
rule to them, and puts them back, so the work grows with the rows, not with the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jopt.base import TreeError, configured
from jopt.core.checks import as_array, as_values
from jopt.core.doors import Prepare
from jopt.core.groups import Steps
from jopt.core.leaf import Leaf, Outcome
from jopt.core.one_leaf import Rule, apply_rule
from jopt.core.part import SpecPart
from jopt.core.spec import Spec
from jopt.core.transform import Flow, Transform
from jopt.numerics import compute_dtype, widest
from jopt.numerics.explicit import laid, like, whole


@configured("jopt.", shared=Steps, named_by="spec")
def rowwise(
    spec: Spec,
    rule: Rule,
    *,
    prepare: Prepare | None = None,
    options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Transform:
    """Lift a leafwise rule to tables whose gradients are row-sparse.

    The arguments are those of `leafwise`; the spec declares `sparse="rows"`.
    """
    part = RowPart(spec, rule, prepare, options, arguments)
    return Transform({part.name: part})


def row_gradient(indices: ArrayLike, values: ArrayLike, like: Any) -> Any:
    """The gradient of a table, given for some of its rows, as a `BCOO`.

    Look the rows up first, differentiate with respect to them, and say which they were; the
    gradient of the whole table is then never made.

    **Arguments:**

    - `indices`: integers of any shape `s`; a row may come more than once.
    - `values`: their gradients, of shape `s + like.shape[1:]`.
    - `like`: the table.

    >>> import jax, jax.numpy as jnp, jopt
    >>> table, ids = jnp.ones((1000, 2)), jnp.array([3, 7, 3])
    >>> grads = jax.grad(lambda rows: (rows ** 2).sum())(table[ids])
    >>> jopt.row_gradient(ids, grads, table)
    BCOO(float32[1000, 2], nse=3, n_dense=1)
    """
    from jax.experimental.sparse import BCOO

    who = "row_gradient"
    ids, data = (as_values(who, *x) for x in (("indices", indices), ("values", values)))
    shape = tuple(as_array(who, "like", like).shape)
    if not jnp.issubdtype(ids.dtype, jnp.integer) or not shape:
        raise TreeError(
            who,
            "there are no rows to point at",
            expected="integers for indices, and a table with rows",
            found=f"indices of {ids.dtype}, like of shape {shape}",
        )
    if tuple(data.shape) != (*ids.shape, *shape[1:]):
        raise TreeError(
            "row_gradient",
            "the values do not fit the indices and the table",
            expected=(*ids.shape, *shape[1:]),
            found=tuple(data.shape),
        )
    return BCOO((data.reshape(-1, *shape[1:]), ids.reshape(-1, 1)), shape=shape)


def coalesced(g: Any) -> tuple[Array, Array]:
    """Distinct row numbers and the sums of their values; unused places hold the row after the last.

    As many places as `g` has entries: shapes stay static.
    """
    # Rows with one number may come from every shard of a batch: here all of them are.
    ids, data = whole(g.indices, 0)[:, 0], whole(g.data, 0)
    count, rows = ids.shape[0], g.shape[0]
    ids = jnp.where(ids < 0, ids + rows, ids)  # from the end, as in `table[ids]`
    unique, where = jnp.unique(ids, size=count, fill_value=rows, return_inverse=True)
    wide = data.astype(compute_dtype(data.dtype))
    sums = jnp.zeros_like(wide).at[where.reshape(-1)]
    return unique, sums.add(wide, mode="drop", out_sharding=laid(wide, *range(wide.ndim)))


def taken(table: Array, ids: Array) -> Array:
    """These rows of a table; zeros for the row after the last."""
    return table.at[ids].get(mode="fill", fill_value=0, out_sharding=_rows_of(table))


def put(table: Array, ids: Array, rows: Array) -> Array:
    """The table with these rows in place; the row after the last goes nowhere."""
    rows = like(rows, _rows_of(table))
    return table.at[ids].set(rows, mode="drop", out_sharding=laid(table, *range(table.ndim)))


def add_rows(p: Array, u: Any, rounded: Callable[[Array], Array]) -> Array:
    """p with the rows of `u` added, in at least float32 and then `rounded` to the dtype of p."""
    ids, values = coalesced(u)
    wide = widest(compute_dtype(p.dtype), values.dtype)
    values = like(values, _rows_of(p)).astype(wide)
    return put(p, ids, rounded(taken(p, ids).astype(wide) + values))


def _rows_of(table: Array) -> Any:
    """How some of its rows lie: their number is split nowhere."""
    return laid(table, None, *range(1, table.ndim))


class RowPart(SpecPart):
    """A leafwise rule applied to the rows that have a gradient."""

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule; see `SpecPart.run`."""
        return [self._applied(x) for x in leaves], {}

    def _applied(self, leaf: Leaf) -> Outcome:
        ids, values = coalesced(leaf.g)
        table, tables = jnp.asarray(leaf.p), {k: jnp.asarray(v) for k, v in leaf.slots.items()}
        slots = {k: taken(v, ids) for k, v in tables.items()}
        p, values = taken(table, ids), like(values, _rows_of(table))
        options = self.frozen_options
        u, new = apply_rule(self.rule, self.ending, options, values, slots, p, leaf.numbers)
        update = type(leaf.g)((u, ids[:, None]), shape=leaf.g.shape)
        return Outcome(update, slots={k: put(tables[k], ids, v) for k, v in new.items()})
