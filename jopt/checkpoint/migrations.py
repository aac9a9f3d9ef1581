"""How a manifest of an older format version becomes one of the present version.

A migration renames or drops leaves and rewrites what is said about the transform. It sees the
manifest alone, so `jopt.load`, a scan and the command line all get its names, and the numbers
are read and checked where the old file has them.
"""

from __future__ import annotations

from collections.abc import Callable

from jopt.checkpoint import manifest as present
from jopt.checkpoint.manifest import Manifest

MIGRATIONS: dict[int, Callable[[Manifest], Manifest]] = {}
"""From each version before the present one to the next: `{1: from_1_to_2, ...}`."""


def migrate(manifest: Manifest) -> Manifest:
    """The manifest as the present version would name its leaves; `version` stays the file's."""
    for version in range(manifest.version, present.VERSION):
        manifest = MIGRATIONS[version](manifest)
    return manifest
