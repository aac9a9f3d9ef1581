"""What a transform does to which leaf, with which numbers, and what it keeps for it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jopt.base import checked, printable
from jopt.core.paths import Path, shown
from jopt.core.transform import Transform
from jopt.tables.collected import InForce, Share, collected
from jopt.tables.drawn import drawn
from jopt.tables.subtrees import subtrees
from jopt.tables.text import SCREEN, Row, aligned, leaves, number, size

FEW, NARROW = 3, 8
"""So many things stand in one cell; so wide is one at least where rich folds it."""

Table = tuple[str, list[str], list[Row]]
"""A title, the columns and the rows."""


@dataclass(frozen=True, eq=False)
class Summary:
    """What `jopt.summary` found; it prints as tables.

    `print(found)` and `repr` give plain text, a notebook shows HTML, and rich draws it:
    `rich.print(found)`.

    **Attributes:** `transform`, the call as text; `leaves`, one `dict` for each leaf, with `path`,
    `shape`, `dtype`, `entries`, `bytes`, `frozen`, `optimizers`, `groups`, `numbers` (by
    optimizer and name), `slots` (`dtype`, `entries` and `bytes` by node and slot), `state_bytes`;
    `numbers`, those in force, `{node: {group: {name: number}}}`; `scheduled`, the nodes and names
    of those that a schedule sets; `totals`, `entries` and `bytes` of the `parameters`, of each
    slot by node and name, of `numbers` (and counts) and of the whole `state`; `paths`, those of
    the leaves, as tuples; `whole`, whether every leaf is shown.
    """

    transform: str
    leaves: list[dict[str, Any]]
    numbers: InForce
    scheduled: frozenset[tuple[str, str]]
    totals: dict[str, Share]
    paths: tuple[Path, ...]
    whole: bool = False

    def __repr__(self) -> str:
        lines = [self.transform]
        for title, columns, rows in self._tables():
            lines += ["", title, *aligned(columns, rows)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        made = [f"<code>{html.escape(self.transform)}</code>"]
        for title, columns, rows in self._tables():
            head = _cells("th", columns, [column[1:] for column in columns])
            body = "".join(f"<tr>{_cells('td', columns, row)}</tr>" for row in rows)
            made.append(
                f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead>"
                f"<tbody>{body}</tbody></table>"
            )
        return f'<div class="jopt-summary">{"".join(made)}</div>'

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield Text(self.transform)
        for title, columns, rows in self._tables():
            yield Text(f"\n{title}", style="bold")
            yield drawn(columns, rows, NARROW)[0]

    def _tables(self) -> Iterator[Table]:
        yield self._leaves()
        for node, groups in self.numbers.items():
            names = dict.fromkeys(name for own in groups.values() for name in own)
            rows: list[Row] = [
                (
                    printable(name) + (", scheduled" if (node, name) in self.scheduled else ""),
                    *(_number(own[name]) if name in own else "" for own in groups.values()),
                )
                for name in names
            ]
            yield f"numbers of {printable(node)}", ["<name", *(f">{g}" for g in groups)], rows
        base = self.totals["parameters"]["entries"]
        totals: list[Row] = [
            (
                printable(name),
                f"{share['entries']:,}",
                size(share["bytes"]),
                number(share["bytes"] / base) if base else "",
            )
            for name, share in self.totals.items()
        ]
        yield "sizes", ["<part", ">entries", ">size", ">bytes per parameter"], totals

    def _leaves(self) -> Table:
        count = len(self.leaves)
        if self.whole or count <= SCREEN:
            title, parts = leaves(count), [(leaf["path"], [leaf]) for leaf in self.leaves]
        else:
            title = f"{leaves(count)}, by subtree: whole=True shows each"
            parts = []
            for one in subtrees(self.paths, SCREEN):
                name = shown(one.path)
                name = (f"{name}/..." if name else "...") if one.count > 1 else name
                parts.append((name, self.leaves[one.start : one.stop]))
        labels = {label for leaf in self.leaves for label in leaf["optimizers"]}
        optional = {
            "=optimizer": len(labels) > 1 or labels != {x.split(":")[0] for x in labels},
            "=group": any(leaf["groups"] or leaf["frozen"] for leaf in self.leaves),
        }
        columns = ["<leaf", "=shape", "=dtype", *optional, ">state", "<numbers", "<slots"]
        columns = [c for c in columns if optional.get(c, True)]
        rows: list[Row] = []
        for name, inside in parts:
            cells = {
                "leaf": name,
                "shape": _one(_together(inside), (str(leaf["shape"]) for leaf in inside)),
                "dtype": _several(leaf["dtype"] for leaf in inside),
                "optimizer": _several(x for leaf in inside for x in leaf["optimizers"]),
                "group": _several(_group(leaf) for leaf in inside),
                "state": size(sum(leaf["state_bytes"] for leaf in inside)),
                "numbers": _one("several", (_told(leaf["numbers"]) for leaf in inside)),
                "slots": _slots({k: x for leaf in inside for k, x in leaf["slots"].items()}),
            }
            rows.append([printable(cells[column[1:]]) for column in columns])
        return title, columns, rows


@checked
def summary(tx: Transform, params: Any, state: Any = None, *, whole: bool = False) -> Summary:
    """What a transform does to which leaf, with which numbers, and what it keeps for it.

    Nothing is computed and nothing allocated, so a model too large for this machine is described
    as well: of parameters their shapes and dtypes are read.

    **Arguments:**

    - `tx`: any transform.
    - `params`: the parameters, or `jax.ShapeDtypeStruct`s in their place, such as
      `jax.eval_shape(model.init, key, x)`.
    - `state`: its state, for the numbers that the next update uses; `None` for those at the
      beginning.
    - `whole`: show every leaf. Without, more than 60 leaves are shown by subtree.

    **Returns:** a `jopt.Summary`, which prints as tables: each leaf with the optimizer it goes to,
    its groups, what learning rate and weight decay it has and what numbers its groups set, its
    slots and the bytes of state that it takes; the numbers of each group; and totals.

    **Raises:** `TreeError` and `GroupError` as `tx.init` does; `StateError` for the state of
    another transform.

    >>> import jax.numpy as jnp, jopt
    >>> plain = {"plain": jopt.group("^b$", weight_decay=0.0)}
    >>> found = jopt.summary(jopt.adamw(1e-3, groups=plain), {"b": jnp.ones(2), "w": jnp.ones(3)})
    >>> print(found)
    jopt.adamw(learning_rate=0.001, groups={'plain': jopt.group(...
    2 leaves
    leaf  shape  dtype    group  state  numbers                                 slots
    b     (2,)   float32  plain   16 B  learning_rate=0.001, weight_decay=0     mu nu float32
    w     (3,)   float32          24 B  learning_rate=0.001, weight_decay=0.01  mu nu float32
    ...
    >>> found.totals["adamw/mu"]
    {'entries': 5, 'bytes': 20}
    """
    found = collected(tx, params, state)
    return Summary(
        repr(tx), found.leaves, found.numbers, found.scheduled, found.totals, found.paths, whole
    )


def _cells(tag: str, columns: Sequence[str], row: Row) -> str:
    sides = ["right" if column[0] == ">" else "left" for column in columns]
    return "".join(
        f'<{tag} style="text-align:{side}">{html.escape(text)}</{tag}>'
        for side, text in zip(sides, row, strict=True)
    )


def _number(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_number, value)) if len(value) <= FEW else f"{len(value)} values"
    return "unknown" if value is None else f"{value:.6g}"


def _one(other: str, texts: Iterable[str]) -> str:
    """The text that all are, or another if they differ."""
    found = {*texts}
    return found.pop() if len(found) == 1 else other


def _together(inside: Sequence[Mapping[str, Any]]) -> str:
    return f"{leaves(len(inside))}, {sum(leaf['entries'] for leaf in inside):,} entries"


def _several(texts: Iterable[str]) -> str:
    """The texts that there are, each once, or how many."""
    found = [*dict.fromkeys(text for text in texts if text)]
    return ", ".join(found) if len(found) <= FEW else f"{len(found)} kinds"


def _group(leaf: Mapping[str, Any]) -> str:
    name = "+".join(leaf["groups"])
    return name if name == "frozen" or not leaf["frozen"] else f"{name} frozen"


def _told(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers of a leaf; with the optimizer's name if several have one of that name."""
    names = [name for own in numbers.values() for name in own]
    return ", ".join(
        f"{f'{node}/' if names.count(name) > 1 else ''}{name}={_number(x)}"
        for node, own in numbers.items()
        for name, x in own.items()
    )


def _slots(slots: Mapping[str, Mapping[str, Any]]) -> str:
    """The names of slots, those of one dtype together."""
    by_dtype: dict[str, list[str]] = {}
    for name, one in slots.items():
        by_dtype.setdefault(one["dtype"], []).append(name.rpartition("/")[2])
    return ", ".join(f"{' '.join(names)} {dtype}" for dtype, names in by_dtype.items())
