"""State in 8 bits beside float32's, for the optimizers of matrices and of little memory.

    python -m tests.benchmarks.stored --cases soap,kron

One matrix of 64×256, least squares by batches of 32 whose features differ by 100 in scale. `apart`
is ‖p − q‖ / ‖p − p₀‖ of parameters p with float32's state and q with the other, after 50 and 200
steps; `begun apart` is the same of two float32 runs that begin 10⁻⁶ apart: what rounding grows to
by itself. `all in 8 bits` stores also the slots that no `state_dtype` does: why they stay whole.
`docs/low_memory.md` has the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import jopt
from tests.benchmarks.reports import arguments, as_they_come, names, note
from tests.benchmarks.trees import nbytes

SHAPE, BATCH, STEPS = (64, 256), 32, (50, 200)
MUON: dict[str, Any] = {"ns_dtype": "float32"}

CASES: dict[str, Callable[..., Any]] = {
    "adamw": lambda **on: jopt.adamw(3e-3, **on),
    "lion": lambda **on: jopt.lion(1e-3, **on),
    "tiger": lambda **on: jopt.tiger(1e-3, relative=False, **on),
    "adabound": lambda **on: jopt.adabound(3e-3, **on),
    "adafactor": lambda **on: jopt.adafactor(1e-2, **on),
    "came": lambda **on: jopt.came(3e-3, **on),
    "adam_mini": lambda **on: jopt.adam_mini(3e-3, **on),
    "apollo": lambda **on: jopt.apollo(1e-2, rank=32, **on),
    "galore": lambda **on: jopt.galore(jopt.adamw(3e-3, **on), rank=32),
    "muon": lambda **on: jopt.muon(1e-2, **MUON, **on),
    "normuon": lambda **on: jopt.normuon(1e-2, **MUON, **on),
    "dion2": lambda **on: jopt.dion2(1e-2, **MUON, **on),
    "soap": lambda **on: jopt.soap(3e-3, **on),
    "kl_shampoo": lambda **on: jopt.kl_shampoo(3e-3, **on),
    "shampoo": lambda **on: jopt.shampoo(3e-3, **on),
    "kron": lambda **on: jopt.kron(1e-3, **on),
}
HEADS = (
    "update",
    "in 8 bits",
    "whole",
    "bytes",
    "of float32's",
    *(f"apart at {n}" for n in STEPS),
    f"begun apart at {STEPS[-1]}",
    "loss",
    "of float32's",
    f"all in 8 bits: apart at {STEPS[-1]}",
)


def run(tx: Any, start: jax.Array) -> tuple[list[jax.Array], float]:
    """The parameters after each number of steps, and the loss at the last."""
    one, two, three = jax.random.split(jax.random.key(0), 3)
    scales = jnp.logspace(-1, 1, SHAPE[1])
    goal = jax.random.normal(one, SHAPE) / SHAPE[1] ** 0.5

    def batch(t: Any) -> Any:
        x = scales[:, None] * jax.random.normal(jax.random.fold_in(two, t), (SHAPE[1], BATCH))
        noise = 0.1 * jax.random.normal(jax.random.fold_in(three, t), (SHAPE[0], BATCH))
        return x, noise

    def step(carry: Any, t: Any) -> Any:
        p, state = carry
        x, noise = batch(t)
        g = ((p - goal) @ x - noise) @ x.T / BATCH
        made = jopt.step(tx, {"w": g}, state, {"w": p})
        return (made[0]["w"], made[1]), None

    def loss(p: Any) -> Any:
        return jnp.sum(jnp.square((p - goal) * scales)) / 2

    go = jax.jit(lambda carry, at: jax.lax.scan(step, carry, at)[0])
    carry, found = (start, tx.init({"w": start})), []
    for t in range(0, STEPS[-1], STEPS[0]):
        carry = go(carry, jnp.arange(t, t + STEPS[0]))
        if t + STEPS[0] in STEPS:
            found.append(carry[0])
    return found, float(loss(carry[0]))


@contextlib.contextmanager
def compressible(tx: Any) -> Iterator[list[str]]:
    """Every slot of a transform may be compressed; the names of those that otherwise may not."""
    slots = [s for part in tx.parts.values() for s in part.slots if not s.compress]
    for slot in slots:
        object.__setattr__(slot, "compress", True)
    try:
        yield [slot.name for slot in slots]
    finally:
        for slot in slots:
            object.__setattr__(slot, "compress", False)


def kinds(state: Any) -> tuple[list[str], list[str]]:
    """The slots that are stored in 8 bits, and those that are not and have more than a number."""
    node = next(iter(state.values()))
    slots = {k: x["w"] for k, x in node.items() if isinstance(x, dict) and "w" in x}
    packed = [k for k, x in slots.items() if isinstance(x, dict)]
    whole = [k for k, x in slots.items() if not isinstance(x, dict) and x.size > 1]
    return sorted(packed), sorted(whole)


def row(name: str) -> list[str]:
    """One line of the table."""
    make = CASES[name]
    start = jnp.zeros(SHAPE)
    plain, packed = make(), make(state_dtype="int8")
    of, other = (jax.eval_shape(tx.init, {"w": start}) for tx in (plain, packed))
    exact, loss = run(plain, start)
    found, lost = run(packed, start)
    beside, _ = run(plain, start + 1e-6)
    away = [jnp.linalg.norm(p - start) for p in exact]

    def apart(points: list[jax.Array]) -> list[str]:
        gaps = [jnp.linalg.norm(p - q) / a for p, q, a in zip(exact, points, away, strict=True)]
        return [f"{float(x):.1e}" for x in gaps]

    with compressible(packed) as more:
        forced = apart(run(make(state_dtype="int8"), start)[0])[-1] if more else ""
    slots = (", ".join(f"`{k}`" for k in some) for some in kinds(other))
    count = start.size
    figures = [f"{nbytes(x) / count:.2f}" for x in (other, of)]
    losses = [f"{x:.3g}" for x in (lost, loss)]
    return [f"`{name}`", *slots, *figures, *apart(found), apart(beside)[-1], *losses, forced]


def main() -> None:
    """Print the table."""
    parser = arguments("stored", __doc__)
    parser.add_argument("--cases", type=names(CASES), default=list(CASES))
    said = parser.parse_args()

    def rows() -> Iterator[list[str]]:
        for name in said.cases:
            note(f"running {name}")
            yield row(name)

    as_they_come(HEADS, rows())


if __name__ == "__main__":
    main()
