"""What the frozen files in `golden/` hold. They are what a format version means: never rewritten.

`python -m tests.checkpoint.goldens` writes those that do not exist yet, such as the state of a
new optimizer, and touches no other. Numbers are made without arithmetic, so that no change of
JAX changes one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import ml_dtypes
import numpy as np

import jopt
from jopt.checkpoint import wire
from jopt.checkpoint.leaves import DTYPES
from jopt.checkpoint.manifest import VERSION
from tests.catalog import CATALOG

FOLDER = Path(__file__).parent / "golden"
OWN = object()  # the golden file's own tree, which may be `None`


@dataclass(frozen=True)
class Golden:
    """One frozen file: the tree, the transform, the length of a piece of an array."""

    tree: Callable[[], Any]
    tx: Callable[[], jopt.Transform | None] = lambda: None
    chunk: int = 2**30

    def written(self, tree=OWN) -> bytes:
        with mock.patch.object(wire, "CHUNK", self.chunk):
            return jopt.to_bytes(self.tree() if tree is OWN else tree, tx=self.tx())

    def read(self, data: bytes, like=None, tx=None):
        with mock.patch.object(wire, "CHUNK", self.chunk):
            return jopt.from_bytes(like, data, tx=tx)


# All of version 1. A dtype that ml_dtypes adds later needs no new file.
DTYPES_OF_V1 = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16"),
    *(
        "float32",
        "float64",
        "complex64",
        "complex128",
        "bfloat16",
        "float4_e2m1fn",
        "float6_e2m3fn",
    ),
    *("float6_e3m2fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn"),
    *("float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("int1", "int2", "int4", "uint1", "uint2", "uint4", "bcomplex32", "complex32"),
)


def dtypes():
    shapes = [(), (2,), (1, 2, 1), (0, 3)]
    tree = {}
    for name in DTYPES_OF_V1:
        dtype = DTYPES[name]
        one = np.ones((), np.float32).astype(dtype)
        tree[name] = {str(i): np.full(shape, one, dtype) for i, shape in enumerate(shapes)}
    # Every bit counts, also in a NaN, and in a zero.
    patterns = np.array([0x7FC0_0001, 0xFF80_0001, 0x8000_0000, 1], np.uint32)
    tree["float32"]["bits"] = patterns.view(np.float32)
    tree["bfloat16"]["bits"] = np.arange(0, 2**16, 4001, np.uint16).view(ml_dtypes.bfloat16)
    return tree


def values():
    edges = [2**n for n in (5, 7, 8, 15, 16, 31, 32, 63)]
    ints = sorted(
        {0, 2**64 - 1, -(2**63), *(s * (e + d) for e in edges for d in (-1, 0) for s in (1, -1))}
    )
    floats = [0.0, -0.0, 0.1, 5e-324, float("inf"), float("-inf"), float("nan"), float(2**53)]
    return {
        "ints": ints,
        "floats": floats,
        "complex": [1j, complex(-0.0, float("nan")), complex(0.1, float("-inf"))],
        "text": [
            "",
            "läuft",
            "\0",
            "\N{SNOWMAN}\U0001f642",
            *("x" * n for n in (31, 32, 255, 256)),
        ],
        "bool": (True, False),
        "none": None,
        "empty": {"dict": {}, "list": [], "tuple": ()},
    }


def keys():
    odd = [
        "",
        " ",
        "/",
        "~",
        "~0",
        "~1",
        "a/b",
        "a",
        "A",
        "0",
        "10",
        "9",
        "\n",
        "\0",
        "é",
        "e\u0301",
    ]
    odd += ["\U0001f642", "\uffff", "jopt", "tree", "crc32", "value", "shape", "k" * 300]
    tree: dict[str, Any] = {key: i for i, key in enumerate(odd)}
    tree["inner"] = {key: np.array(i, np.int16) for i, key in enumerate(odd)}
    deep = tree["deep"] = {}
    for _ in range(40):
        deep["d"] = {}
        deep = deep["d"]
    return tree


def chunked():
    return {
        "flat": np.arange(70, dtype=np.float32),
        "square": np.arange(100, dtype=np.int16).reshape(10, 10),
        "whole": np.arange(64, dtype=np.uint8),
        "one more": np.arange(65, dtype=np.uint8),
        "wide": np.arange(9, dtype=np.float64).astype(np.complex128),
        "half": np.arange(33).astype(ml_dtypes.bfloat16).reshape(3, 11),
    }


def containers():
    array = np.arange(3, dtype=np.int8)
    return {"list": [array, [array]], "tuple": (array, {"k": ()}), "twelve": [*range(12)]}


PARAMS = {
    "conv": {"kernel": np.zeros((2, 2, 3, 4), np.float32), "bias": np.zeros(4, np.float32)},
    "dense": {"kernel": np.zeros((4, 3), np.float32), "scale": np.zeros((), np.float32)},
}
MATRICES = {"dense": {"kernel": np.zeros((4, 3), np.float32)}, "out": np.zeros((3, 2), np.float32)}


def filled(state):
    """A state with numbers as after some steps; those of the configuration stay."""
    flat, treedef = jax.tree.flatten_with_path(jopt.state_dict(state))
    leaves = []
    for path, leaf in flat:
        keys = [key.key for key in path]
        if keys[-1] == "count":
            leaf = np.full_like(leaf, 7)
        elif not {"hyperparams", "given"} & set(keys) and leaf.dtype.kind == "f":
            leaf = (np.arange(1, leaf.size + 1).reshape(leaf.shape) / 8).astype(leaf.dtype)
        leaves.append(leaf)
    return treedef.unflatten(leaves)


def params_for(entry):
    if max(entry.ndims) == 2 and 1 in entry.ndims:
        return {"conv": {"bias": PARAMS["conv"]["bias"]}, "dense": PARAMS["dense"]}
    return PARAMS if {0, 1, 4} & set(entry.ndims) else MATRICES


def composed():
    inner = jopt.adamw(
        jopt.schedules.linear(1e-2, 0.0, 100),
        weight_decay=0.1,
        groups={
            "no_decay": jopt.group("(bias|scale)$", weight_decay=0.0),
            "fast": jopt.group("^dense/kernel$", learning_rate=jopt.schedules.constant(0.5)),
            "frozen": jopt.group("^conv/kernel$", freeze=True),
        },
    )
    clipped = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.skip_nonfinite(inner))
    return jopt.ema(jopt.accumulate(clipped, every=4), decay=0.99)


def run():
    state = filled(composed().init(PARAMS))
    return {"params": PARAMS, "state": state, "step": 28, "note": None}


GOLDENS = {
    "dtypes": Golden(dtypes),
    "values": Golden(values),
    "keys": Golden(keys),
    "chunked": Golden(chunked, chunk=64),
    "containers": Golden(containers),
    "array": Golden(lambda: np.arange(6, dtype=np.int32).reshape(2, 3)),
    "number": Golden(lambda: 3),
    "none": Golden(lambda: None),
    "empty": Golden(dict),
    "run": Golden(run, composed),
}
# These kept no count in version 1: a file of it has none, and it starts at 0.
UNCOUNTED = {"clip_by_global_norm", "lbfgs", "muon"}
STATES = {
    entry.name: Golden(lambda e=entry: filled(e.make().init(params_for(e))), entry.make)
    for entry in CATALOG
}
ALL = {**GOLDENS, **{f"states/{name}": golden for name, golden in STATES.items()}}


def path_of(name, version=VERSION):
    return FOLDER / f"v{version}" / f"{name}.jopt"


def of_version_1(tree, path=()):
    """What a file of version 1 holds of this: nobody knows what was given; few keep counts."""
    if not isinstance(tree, dict):
        return tree
    new = {key: of_version_1(kid, (*path, key)) for key, kid in tree.items()}
    if "given" in new:
        new["given"] = np.full_like(new["given"], np.nan)
        if path[-1] in UNCOUNTED:
            new["count"] = np.zeros_like(new["count"])
    return new


if __name__ == "__main__":
    path_of("states/x").parent.mkdir(parents=True, exist_ok=True)
    for name, golden in ALL.items():
        if not path_of(name).exists():
            path_of(name).write_bytes(golden.written())
            print(path_of(name))  # noqa: T201
