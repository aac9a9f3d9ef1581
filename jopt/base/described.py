"""How a call is written: in one line as it was, or every argument on a line of its own."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from jopt.base.arguments import plain

WIDTH = 80
"""What is longer is divided."""


def written(value: Any) -> str:
    """An argument on one line."""
    value = plain(value)
    if inspect.isroutine(value):
        return f"<{value.__qualname__}>"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {written(v)}" for k, v in value.items()) + "}"
    # An address says nothing, and arrays are written on several lines.
    return re.sub(r"\s*\n\s*", " ", re.sub(r" at 0x[0-9a-f]+", "", repr(value)))


def described(value: Any, indent: str = "") -> str:
    """An argument; what jopt made is its call, with every argument that it has."""
    call, within = getattr(value, "_call", None), f"{indent}    "
    if isinstance(value, Mapping):
        begin, end = "{", "}"
        parts = [f"{k!r}: {described(v, within)}" for k, v in value.items()]
    elif type(value) in (list, tuple):
        begin, end = (
            ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        )
        parts = [described(v, within) for v in value]
    elif call is not None:
        begin, end = f"{call.prefix}{call.factory.__name__}(", ")"
        parts = [described(v, within) for v in call.positional]
        parts += [f"{name}={described(v, within)}" for name, v in call.named.items()]
    else:
        return written(value)
    line = f"{begin}{', '.join(parts)}{end}"
    if "\n" not in line and len(indent) + len(line) <= WIDTH:
        return line
    inside = "".join(f"{within}{part},\n" for part in parts)
    return f"{begin}\n{inside}{indent}{end.lstrip(',')}"
