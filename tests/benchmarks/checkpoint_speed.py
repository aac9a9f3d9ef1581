"""Prints what saving and loading cost, in seconds and in memory, beside the plainest alternatives.

Run from the repository root: `python -m tests.benchmarks.checkpoint_speed [--size 2G]`. Each
measurement has a process to itself; the rounds are interleaved, and medians are shown. Memory is
the peak of the process (VmHWM, so Linux only) above what it holds before the call; for a load,
above that and the loaded state. Before each, as much memory as it may need is taken and given
back: on a virtual machine memory that comes from the host for the first time is far slower.

The layout `mixed` is a few large leaves and many small ones, `single` one leaf of three quarters
of the size: at 2 GB it is longer than a chunk.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MB = 2**20
LARGE, SMALL = 6, 2000


class Bound(NamedTuple):
    """What a case is measured against: another case, and how much longer it may take."""

    other: str
    factor: float


def counts(layout: str, size: int) -> dict[str, int]:
    """The leaves of the state, and how many numbers each has."""
    if layout == "single":
        sizes = {"large": size * 3 // 4}
    else:
        sizes = {f"small{i:04}": size // 16 // SMALL for i in range(SMALL)}
        sizes |= {f"large{i}": size * 15 // 16 // LARGE for i in range(LARGE)}
    return {name: max(1, count // 4) for name, count in sizes.items()}


def build(layout: str, size: int) -> dict[str, np.ndarray]:
    """The state: float32, every page of it touched."""
    return {
        name: np.full(count, i + 0.5, np.float32)
        for i, (name, count) in enumerate(counts(layout, size).items())
    }


def save_raw(path: str, state: Any) -> None:
    """The bytes alone, summed, forced to the disk and put in place of the old ones."""
    with open(f"{path}.new", "wb", buffering=0) as file:
        for array in state.values():
            data = array.view(np.uint8).data
            zlib.crc32(data)
            done = 0
            while done < len(data):
                done += file.write(data[done:])
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)


def save_jopt(path: str, state: Any) -> None:
    """`jopt.save`."""
    import jopt

    jopt.save(path, state, progress=False)


def load_safetensors(path: str, like: Any) -> Any:
    """`safetensors.numpy.load_file`, and the sum over what it gives."""
    import safetensors.numpy

    return summed(safetensors.numpy.load_file(path))


def load_flax(path: str, like: Any) -> Any:
    """`flax.serialization.msgpack_restore` of the whole file, and the sum."""
    import flax.serialization

    return summed(flax.serialization.msgpack_restore(Path(path).read_bytes())["tree"])


def load_jopt(path: str, like: Any) -> Any:
    """`jopt.load`."""
    import jopt

    return jopt.load(path, like, progress=False)


def summed(state: Any) -> Any:
    """The state, after a CRC-32 over each array: what `jopt.load` does, too."""
    for array in state.values():
        zlib.crc32(array.reshape(-1).view(np.uint8).data)
    return state


def nothing(layout: str, size: int) -> None:
    """No `like`."""


def shapes(layout: str, size: int) -> dict[str, Any]:
    """What `like` is at best: shapes, with nothing behind them."""
    import jax

    return {k: jax.ShapeDtypeStruct((n,), np.float32) for k, n in counts(layout, size).items()}


def on_device(state: Any) -> Any:
    """The state as jax arrays."""
    import jax

    return jax.block_until_ready({k: jax.device_put(x) for k, x in state.items()})


def same(state: Any) -> Any:
    """The state as it is."""
    return state


SAVES: dict[str, tuple[Callable[..., None], Callable[[Any], Any], Bound | None]] = {
    "save raw bytes, crc32, fsync": (save_raw, same, None),
    "jopt.save of numpy": (save_jopt, same, Bound("save raw bytes, crc32, fsync", 1.5)),
    "jopt.save of jax": (save_jopt, on_device, Bound("save raw bytes, crc32, fsync", 1.5)),
}
LOADS: dict[str, tuple[Callable[..., Any], Callable[[str, int], Any], Bound | None]] = {
    "safetensors load, crc32": (load_safetensors, nothing, None),
    "flax restore, crc32": (load_flax, nothing, None),
    "jopt.load without like": (load_jopt, nothing, Bound("safetensors load, crc32", 1.5)),
    "jopt.load, like of shapes": (load_jopt, shapes, Bound("safetensors load, crc32", 1.5)),
}
BYTES = ("flax to_bytes", "jopt.to_bytes", "flax from_bytes", "jopt.from_bytes")


def memory(what: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def measured(call: Callable[[], Any], room: int) -> tuple[Any, float, int]:
    """What the call gives, its seconds, and the peak of memory above what was there."""
    gc.collect()
    taken = np.ones(room, np.uint8)
    del taken
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, began = memory("VmRSS"), time.perf_counter()
    result = call()
    return result, time.perf_counter() - began, memory("VmHWM") - before


def run_case(case: str, layout: str, size: int, folder: str) -> dict[str, float]:
    """One measurement, in this process."""
    tiny = build("mixed", MB)
    nbytes = 4 * sum(counts(layout, size).values())
    if case in SAVES:
        save, prepare, _ = SAVES[case]
        save(f"{folder}/tiny.out", prepare(tiny))  # imports do not count
        state = prepare(build(layout, size))
        _, seconds, peak = measured(lambda: save(f"{folder}/{layout}.out", state), 3 * size)
        return {"seconds": seconds, "extra": peak}
    if case in LOADS:
        load, prepare, _ = LOADS[case]
        kind = "safetensors" if load is load_safetensors else "jopt"
        load(f"{folder}/tiny.{kind}", prepare("mixed", MB))
        like = prepare(layout, size)
        path = f"{folder}/{layout}.{kind}"
        with open(path, "rb", buffering=0) as file:  # both from the system's cache
            while file.read(16 * MB):
                pass
        _, seconds, peak = measured(lambda: load(path, like), 3 * size)
        return {"seconds": seconds, "extra": peak - nbytes}
    import flax.serialization

    import jopt

    module: Any = jopt if case.startswith("jopt") else flax.serialization
    module.from_bytes(None, module.to_bytes(tiny))
    state: Any = build(layout, size)
    if case.endswith("to_bytes"):
        call = lambda: module.to_bytes(state)  # noqa: E731
    else:
        data = module.to_bytes(state)
        state = None
        call = lambda: module.from_bytes(None, data)  # noqa: E731
    _, seconds, peak = measured(call, size)
    return {"seconds": seconds, "extra": peak - nbytes}


def prepare_files(layouts: list[str], size: int, folder: str) -> None:
    """What the loads read."""
    import safetensors.numpy

    import jopt

    for name in ("tiny", *layouts):
        state = build("mixed", MB) if name == "tiny" else build(name, size)
        jopt.save(f"{folder}/{name}.jopt", state, progress=False)
        safetensors.numpy.save_file(state, f"{folder}/{name}.safetensors")


def collect(layouts: list[str], size: int, rounds: int, folder: str) -> list[dict[str, Any]]:
    """Medians of every case and layout."""
    module = "tests.benchmarks.checkpoint_speed"
    cases = [(layout, case) for layout in layouts for case in (*SAVES, *LOADS, *BYTES)]
    found: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in cases}
    order = random.Random(0)
    for i in range(rounds):
        for layout, case in order.sample(cases, len(cases)):
            if i and case in BYTES:  # of these the memory matters, which is the same every time
                continue
            command = [sys.executable, "-m", module, "--size", str(size), "--folder", folder]
            command += ["--layouts", layout, "--case", case]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[layout, case].append(json.loads(out))
            sys.stderr.write(f"{layout}, {case}: {out}\n")
    rows = []
    for (layout, case), runs in found.items():
        row: dict[str, Any] = {"layout": layout, "case": case}
        for key in ("seconds", "extra"):
            row[key] = statistics.median(run[key] for run in runs)
        bound = ({**SAVES, **LOADS}.get(case) or (None, None, None))[2]
        if bound:
            # Of one round, as the load on a shared machine changes from one to the next.
            others = found[layout, bound.other]
            ratios = [a["seconds"] / b["seconds"] for a, b in zip(runs, others, strict=True)]
            row |= {"ratio": statistics.median(ratios), "allowed": bound.factor}
        row["largest"] = 4 * max(counts(layout, size).values())
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]], size: int) -> None:
    """The table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{size / 2**30:.2f} GiB of float32")
    for name in ("layout", "case", "seconds", "times", "allowed", "extra MB", "leaf MB"):
        table.add_column(name, justify="left" if name in ("layout", "case") else "right")
    for row in rows:
        ratio = (f"{row['ratio']:.2f}", f"{row['allowed']}") if "ratio" in row else ("", "")
        amounts = (f"{row['extra'] / MB:.0f}", f"{row['largest'] / MB:.0f}")
        table.add_row(row["layout"], row["case"], f"{row['seconds']:.3f}", *ratio, *amounts)
    Console().print(table)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="2G", help="bytes, or 512M, or 2G")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layouts", nargs="+", default=["mixed", "single"])
    parser.add_argument("--folder", help="where to write; by default a temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    unit = {"M": MB, "G": 2**30}.get(chosen.size[-1])
    size = int(float(chosen.size[:-1]) * unit) if unit else int(chosen.size)
    if chosen.case:
        found: Any = run_case(chosen.case, chosen.layouts[0], size, chosen.folder)
        sys.stdout.write(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        prepare_files(chosen.layouts, size, folder)
        rows = collect(chosen.layouts, size, chosen.rounds, folder)
    if chosen.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        show(rows, size)


if __name__ == "__main__":
    main()
