"""Where the rules of a transform sit: under which labels, and with which leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jopt.core.part import SpecPart
from jopt.core.paths import Path
from jopt.core.route import RoutePart
from jopt.core.transform import Leaves, Part
from jopt.core.tree import Layout


@dataclass(frozen=True)
class Located:
    """One rule inside a transform: the labels down to its node, and the leaves that it sees."""

    keys: Path
    part: SpecPart
    layout: Layout
    params: Leaves


def spec_parts(
    parts: Mapping[str, Part], layout: Layout, params: Leaves, above: Path = ()
) -> Iterator[Located]:
    """Every rule among these parts, wrapped and routed ones too."""
    for label, part in parts.items():
        keys = (*above, label)
        if isinstance(part, SpecPart):
            yield Located(keys, part, layout, params)
        elif isinstance(part, RoutePart):
            routes = part.labels(layout, params)
            for route, row in part.labelled.items():
                own = [i for i, r in enumerate(routes) if r == route]
                yield from spec_parts(row, layout.part(own), [params[i] for i in own], keys)
        else:
            yield from spec_parts(part.wrapped, layout, params, keys)
