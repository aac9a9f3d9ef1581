"""Steps of jopt and optax on meshes of many devices, side by side: what one device does and moves.

    python -m tests.benchmarks.scale --devices 16,256 --layers 2 --cases adamw,clip+adamw

Compiled for simulated devices, not run. Arithmetic is that of all matrix products in one device's
program over an even share of it in one device's; of cases without products it is the entries of
state that a device holds over an even share. Collectives of less than 1 kB are left out: norms.
What jax or optax refuses is said in its row.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import jax
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.benchmarks.on_mesh import cost, laid, matrices
from tests.benchmarks.reports import as_they_come, note, number

SMALL = 1024

CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]] = {
    "adamw": (lambda: jopt.adamw(1e-3), lambda: optax.adamw(1e-3)),
    "clip+adamw": (
        lambda: jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(1e-3)),
        lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    ),
    "adafactor": (lambda: jopt.adafactor(), lambda: optax.adafactor(1e-3)),
    "muon": (lambda: jopt.muon(1e-2), lambda: optax.contrib.muon(1e-2)),
    "dion2": (lambda: jopt.dion2(1e-2), None),
    "soap": (lambda: jopt.soap(3e-3), None),
    "kl_shampoo": (lambda: jopt.kl_shampoo(3e-3), None),
    "shampoo": (lambda: jopt.shampoo(1e-3), None),
    "shampoo newton": (lambda: jopt.shampoo(1e-3, method="newton"), None),
    "kron": (lambda: jopt.kron(1e-3), None),
    "soap spread": (lambda: jopt.soap(3e-3, spread=True, update_every=2), None),
    "shampoo spread": (lambda: jopt.shampoo(1e-3, spread=True, update_every=2), None),
    "kron spread": (lambda: jopt.kron(1e-3, spread=True, update_every=2), None),
}
"""By jopt, and by optax where it has one. What keeps something beside whole matrices has it with
their owners.
"""

HEADS = (
    "update",
    "devices",
    "parameters",
    "by",
    "arithmetic",
    "collectives",
    "MB a device",
    "temporary MB",
    "compile s",
)


def layouts(devices: int) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The meshes of so many devices and how parameters are split over them."""
    side = round(devices**0.5)
    yield (devices,), P("f")
    yield (devices,), P(None, "f")
    yield (side, side), P("f", "t")


def placed(tx: Any, params: Mapping[str, Any], of_jopt: bool) -> Any:
    """The shardings of a state: jopt's rule, or a parameter's for what has its path and shape."""
    if of_jopt:
        return jopt.sharding.state_sharding(tx, params)
    mesh = next(iter(params.values())).sharding.mesh

    def one(path: Any, x: Any) -> NamedSharding:
        named = str(getattr(path[-1], "key", None)) if path else ""
        p = params.get(named)
        return p.sharding if p is not None and p.shape == x.shape else NamedSharding(mesh, P())

    return jax.tree_util.tree_map_with_path(one, jax.eval_shape(tx.init, params))


def measured(tx: Any, params: Mapping[str, Any], of_jopt: bool) -> tuple[Any, int, float]:
    """The compiled update, the entries of state on a device, and the seconds of compiling."""
    kept = placed(tx, params, of_jopt)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        kept,
    )
    held = sum(prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(state))
    where = jax.tree.map(lambda p: p.sharding, params)
    start = time.process_time()
    made = jax.jit(tx.update, out_shardings=(where, kept)).lower(params, state, params).compile()
    return made, held, time.process_time() - start


def row(
    name: str, by: str, sizes: tuple[int, ...], spec: Any, alone: Any, layers: int, kind: AxisType
) -> list[str]:
    """One line of the table; `alone` caches what one device does."""
    of_jopt = by == "jopt"
    shapes = matrices(layers, 1024)
    mesh = jax.make_mesh(sizes, ("f", "t")[: len(sizes)], axis_types=(kind,) * len(sizes))
    params = laid(mesh, shapes, spec)
    tx = (CASES[name][not of_jopt] or CASES[name][0])()
    own = tx
    if name == "muon" and of_jopt:
        own = jopt.sharding.laid_out(tx, params)
    elif CASES[name][1] is None:
        own = jopt.sharding.owned(tx, params)
    head = [name, "x".join(map(str, sizes)), str(spec), by]
    try:
        made, held, seconds = measured(own, params, of_jopt)
    except Exception as error:  # of jax or optax: the row says which
        return [*head, type(error).__name__, "", "", "", ""]
    found = cost(made.as_text(), SMALL)
    if (name, by) not in alone:
        one = jax.make_mesh((1,), ("f",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
        program, whole, _ = measured(tx, laid(one, shapes, P()), of_jopt)
        alone[name, by] = cost(program.as_text()).flops or whole
    share = alone[name, by] / prod(sizes)
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(found.counts.items())) or "none"
    temporary = made.memory_analysis().temp_size_in_bytes
    rest = ((found.flops or held) / share, found.moved / 1e6, temporary / 1e6, seconds)
    shown = [number(round(x, 2)) for x in rest]
    return [*head, shown[0], counts, *shown[1:]]


def main() -> None:
    """Print the table."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--devices", default="16,256")
    given.add_argument("--layers", type=int, default=2)
    given.add_argument("--explicit", action="store_true", help="axes of meshes are explicit")
    given.add_argument("--cases", default=",".join(CASES))
    said = given.parse_args()
    devices = [*map(int, said.devices.split(","))]
    jax.config.update("jax_num_cpu_devices", max(devices))
    alone = dict[tuple[str, str], float]()
    kind = AxisType.Explicit if said.explicit else AxisType.Auto

    def rows() -> Iterator[list[str]]:
        for name in said.cases.split(","):
            for count in devices:
                for sizes, spec in layouts(count):
                    for by in ("jopt", "optax") if CASES[name][1] else ("jopt",):
                        note(f"compiling {name} by {by} for {sizes} {spec}")
                        yield row(name, by, sizes, spec, alone, said.layers, kind)

    as_they_come(HEADS, rows())


if __name__ == "__main__":
    os.environ.pop("XLA_FLAGS", None)
    main()
