"""A page for each optimizer, written when the build begins: `docs/api/optimizers/<name>.rst`.

Its head is what `facts.py` found out: names elsewhere, what it keeps for a parameter, what it
takes. Git knows nothing of these pages.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils.utils import column_width
from facts import Facts, M, N
from public import Name, under
from rst import entry, link, summary, table

ROOM = "jopt.optimizers"
FAMILIES = Path(__file__).parent.parent / "api" / "optimizers.md"


def write(folder: Path) -> None:
    """Write all pages, and leave alone those that are as they would be."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{n.public.rpartition('.')[2]}.rst": page(n) for n in under(ROOM)}
    for old in folder.glob("*.rst"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def families() -> dict[str, list[Name]]:
    """The optimizers of each family, as the page that lists them has them."""
    left = {n.public.rpartition(".")[2]: n for n in under(ROOM)}
    found = {}
    for title, listed in re.findall(
        r"^## (.+?)$.*?^```\{optimizers\} (.+?)$", FAMILIES.read_text(), re.MULTILINE | re.DOTALL
    ):
        chosen = list(left) if listed == "*" else listed.split()
        found[title] = [left.pop(name) for name in chosen]
    return {title: names for title, names in found.items() if names}


def page(name: Name) -> str:
    """The page of one optimizer."""
    facts = Facts(name.value)
    title = facts.name
    lines = [
        ".. meta::",
        f"   :keywords: {' '.join([title, facts.torch, *facts.optax])}",
        "",
        title,
        "=" * column_width(title),
        "",
        summary(name),
        "",
        *drawn(name),
        *table(("", ""), [*_names(facts), *facts.supports], "30 70"),
        *_state(facts),
        *_numbers(facts),
        ".. rubric:: Signature and rule",
        "",
        *entry(name),
    ]
    return "\n".join(lines)


def drawn(name: Name, linked: bool = False) -> list[str]:
    """Its picture, made by `docs/optimizers_gallery.py`; `linked` to its page, for the gallery."""
    title = name.public.rpartition(".")[2]
    lines = [
        f".. {'figure' if linked else 'image'}:: /_static/gallery/{title}.png",
        f"   :alt: The path of {title} in a valley, around a bend and off a saddle",
        "   :loading: lazy",
        *([f"   :target: api/optimizers/{title}.html", "", f"   {link(name)}"] if linked else []),
    ]
    return [*lines, ""]


def _names(facts: Facts) -> list[tuple[str, str]]:
    """What others call it; the names of optax that have a page there are links."""
    optax = ", ".join(f":py:obj:`{name}`" for name in facts.optax)
    torch = f"``{facts.torch}``" if facts.torch else ""
    return [("in torch", torch or "not there"), ("in optax", optax or "not there")]


def _state(facts: Facts) -> list[str]:
    lines = [".. rubric:: State for a parameter", ""]
    if not facts.slots:
        return [*lines, "None beside its numbers.", ""]
    header = ["slot", "of a matrix (m, n)", "of a vector (n,)", "dtype", "if"]
    rows = [
        [f"``{s.name}``", f"``{s.matrix}``", f"``{s.vector}``", s.dtype, _when(s.when)]
        for s in facts.slots
    ]
    if facts.spec.torch:
        header.append("in torch")
        rows = [
            [*row, f"``{slot.torch}``" if slot.torch else ""]
            for row, slot in zip(rows, facts.slots, strict=True)
        ]
    return [*lines, *table(header, rows, " ".join(["20"] * len(header))), *_bytes(facts)]


def _when(when: str) -> str:
    return when if when in ("", "for each group") else f"``{when}``"


def _bytes(facts: Facts) -> list[str]:
    """Bytes of state for each entry of a parameter, by how slots are stored."""
    kinds = ["matrix", *(["vector"] if facts.moves(1) else [])]
    stored = {
        "float32": {},
        "bfloat16": {"state_dtype": "bfloat16"},
        "int8": {"state_dtype": "int8"},
    }
    rows = []
    for how, choices in stored.items():
        if choices and "state_dtype" not in facts.takes:
            continue
        held = [facts.bytes(kind, **choices) for kind in kinds]
        if None not in held:
            rows.append([how, *(f"{x:.3g}" if x else "0" for x in held)])
    told = {"matrix": f"of a {M} × {N} matrix", "vector": f"of a vector of {N}"}
    header = ["slots stored as", *(f"bytes an entry {told[kind]}" for kind in kinds)]
    return table(header, rows, " ".join(["30"] * len(header)))


def _numbers(facts: Facts) -> list[str]:
    header = ["number", "default", "range", *(["in torch"] if facts.spec.torch else [])]
    rows = [
        [
            f"``{name}``",
            default,
            f"``{valid}``",
            *([f"``{torch}``" if torch else ""] if facts.spec.torch else []),
        ]
        for name, default, valid, torch in facts.numbers
    ]
    more = "All are in the state and may be schedules, but for what says otherwise."
    return [
        ".. rubric:: Numbers",
        "",
        more,
        "",
        *table(header, rows, " ".join(["25"] * len(header))),
    ]
