"""Where other libraries' documentation has the names that ours uses, without a network.

`docs/_inventories/<library>.txt` is what intersphinx would fetch, less what is not linked: a
name, its kind and its address on a line. It is packed as intersphinx reads it when the build
begins, so that a build needs nothing but the repository and links come out the same every time.
"""

from __future__ import annotations

import zlib
from pathlib import Path

HOMES = {
    "jax": "https://docs.jax.dev/en/latest",
    "optax": "https://optax.readthedocs.io/en/latest",
    "python": "https://docs.python.org/3",
}
FOLDER = Path(__file__).parent.parent / "_inventories"


def entries(library: str) -> list[list[str]]:
    """The name, the kind and the address of each line."""
    lines = (FOLDER / f"{library}.txt").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def mapping(into: Path) -> dict[str, tuple[str, str]]:
    """The value of `intersphinx_mapping`, for inventories written into a folder."""
    into.mkdir(parents=True, exist_ok=True)
    found = {}
    for library, home in HOMES.items():
        head = f"# Sphinx inventory version 2\n# Project: {library}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        body = "".join(f"{name} {kind} 1 {url} -\n" for name, kind, url in entries(library))
        path = into / f"{library}.inv"
        path.write_bytes(head.encode() + zlib.compress(body.encode()))
        found[library] = (home, str(path))
    return found


NAMES = frozenset(name for library in HOMES for name, _, _ in entries(library))
