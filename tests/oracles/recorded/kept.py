"""The files of recorded steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
STEPS = 50


def keep(name: str, found: dict[str, Any]) -> None:
    """A line for each row."""
    rows = ",\n".join(f"{json.dumps(k)}: {json.dumps(way)}" for k, way in found.items())
    (HERE / name).write_text("{\n" + rows + "\n}\n")


def kept(name: str) -> dict[str, Any]:
    return json.loads((HERE / name).read_text())


def off(found: Any, params: Any, ways: dict[str, Any]) -> float:
    """How far parameters are from where these ways lead, over their length."""
    gaps = [np.max(np.abs(found[k] - params[k] - x)) / np.max(np.abs(x)) for k, x in ways.items()]
    return float(max(gaps))


def lively(g: np.ndarray) -> np.ndarray:
    """Gradients of which none is 0 as a whole."""
    g = g.copy()
    g[7:9] = g[5:7]
    return g
