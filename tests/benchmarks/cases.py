"""The updates that are measured: each as jopt writes it, and as optax does where it can.

A `Step` is what a user would jit: `run(params, state, grads)` gives the next parameters and
state. `turns` are the turns of its loops, on average over many calls, and `rest` those of each
further one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jopt
from tests.benchmarks.trees import TREES, Tree

LEARNING_RATE = 1e-3
EVERY = 4
"""Micro-batches to a step."""
PAIRS = 10
"""The memory of L-BFGS."""


class Step(NamedTuple):
    """A state and the function that moves it on."""

    init: Callable[[Any], Any]
    run: Callable[[Any, Any, Any], tuple[Any, Any]]
    turns: tuple[float, ...] = ()
    rest: float | None = None
    often: float = 1.0
    """In which share of steps a conditional takes the branch that moves most."""


class Case(NamedTuple):
    """One update of one tree, by library."""

    tree: str
    steps: dict[str, Callable[[], Step]]
    dtype: str = "float32"

    def shapes(self, tree: str | None = None) -> Tree:
        """The parameters' shapes: of its own tree, or of another one in its dtype."""
        named = TREES[tree or self.tree]()
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, self.dtype), named)


def by_update(
    tx: Any,
    apply: Callable[[Any, Any], Any],
    turns: tuple[float, ...] = (),
    rest: float | None = None,
    often: float = 1.0,
    **extra: Any,
) -> Step:
    """`update`, with what else it is given, then its updates added."""

    def run(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params, **extra)
        return apply(params, updates), state

    return Step(tx.init, run, turns, rest, often)


def by_step(tx: jopt.Transform, turns: tuple[float, ...] = ()) -> Step:
    """The same in one call of `jopt.step`."""
    return Step(tx.init, lambda p, s, g: jopt.step(tx, g, s, p), turns)


def by_rounding(tx: jopt.Transform) -> Step:
    """`jopt.step` with stochastic rounding; its key is split in the program, at every step."""

    def init(params: Any) -> Any:
        return {"state": tx.init(params), "key": jnp.zeros(2, jnp.uint32)}

    def run(params: Any, held: Any, grads: Any) -> tuple[Any, Any]:
        key, drawn = jax.random.split(jax.random.wrap_key_data(held["key"]))
        params, state = jopt.step(
            tx, grads, held["state"], params, rounding="stochastic", key=drawn
        )
        return params, {"state": state, "key": jax.random.key_data(key)}

    return Step(init, run)


def case(
    tree: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    rest: float | None = None,
) -> Case:
    """A case of two transforms, each called by `update` and its library's `apply_updates`."""
    return Case(
        tree,
        {
            "jopt": lambda: by_update(ours(), jopt.apply_updates, rest=rest),
            "optax": lambda: by_update(theirs(), optax.apply_updates),
        },
    )


def adamw(**common: Any) -> jopt.Transform:
    """AdamW with torch's numbers, as `optax_adamw`."""
    return jopt.adamw(LEARNING_RATE, weight_decay=1e-2, **common)


def optax_adamw() -> Any:
    """The same in optax."""
    return optax.adamw(LEARNING_RATE, weight_decay=1e-2)


def clipped() -> jopt.Transform:
    """Clipping by the global norm, then AdamW."""
    return jopt.chain(jopt.clip_by_global_norm(1.0), adamw())


def optax_clipped() -> Any:
    """The same in optax."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax_adamw())


def optax_muon() -> Any:
    """Muon for the matrices but the embedding, AdamW for the rest, as our recipe has it."""

    def matrices(params: Any) -> Any:
        inner = optax.contrib.MuonDimensionNumbers()

        def which(path: Any, x: Any) -> Any:
            return inner if x.ndim == 2 and "embed" not in jax.tree_util.keystr(path) else None

        return jax.tree_util.tree_map_with_path(which, params)

    return optax.contrib.muon(
        2e-2,
        weight_decay=0.1,
        adam_weight_decay=0.1,
        adam_learning_rate=3e-4,
        adam_b2=0.95,
        muon_weight_dimension_numbers=matrices,
    )


def ours(step: Callable[[], Step]) -> dict[str, Callable[[], Step]]:
    """A step that jopt alone takes."""
    return {"jopt": step}


# Two loops of one turn or none: adding up at all calls but the last, and the inner step there.
LAST = 1 / EVERY
ACCUMULATED = {
    "jopt": lambda: by_step(jopt.accumulate(adamw(), EVERY), (1 - LAST, LAST)),
    "jopt, update": lambda: by_update(
        jopt.accumulate(adamw(), EVERY), jopt.apply_updates, (1 - LAST, LAST)
    ),
    "optax": lambda: by_update(optax.MultiSteps(optax_adamw(), EVERY), optax.apply_updates),
}

# Of loops of one turn or none: a second look at what is out of range.
NEVER = 0.0

CASES = {
    "adamw": case("A", adamw, optax_adamw),
    "clip+adamw": case("A", clipped, optax_clipped, NEVER),
    "clip+adamw B": case("B", clipped, optax_clipped, NEVER),
    "clip+adamw stacked": case("A stacked", clipped, optax_clipped, NEVER),
    "accumulate": Case("A", ACCUMULATED),
    "skip+clip+adamw": case(
        "A",
        lambda: jopt.skip_nonfinite(clipped()),
        lambda: optax.apply_if_finite(optax_clipped(), 1000),
        NEVER,
    ),
    "monitor+adamw": Case(
        "A",
        ours(lambda: by_update(jopt.monitor(adamw()), jopt.apply_updates, rest=NEVER)),
    ),
    "monitor+clip+adamw": Case(
        "A",
        ours(lambda: by_update(jopt.monitor(clipped()), jopt.apply_updates, rest=NEVER)),
    ),
    "adafactor": case("A", lambda: jopt.adafactor(1e-2), lambda: optax.adafactor(1e-2)),
    "lion": case("A", lambda: jopt.lion(1e-4), lambda: optax.lion(1e-4)),
    "lamb": case("A", lambda: jopt.lamb(1e-3), lambda: optax.lamb(1e-3), NEVER),
    "prodigy": case("A", jopt.prodigy, optax.contrib.prodigy),
    "muon_adamw": case("A", jopt.recipes.muon_adamw, optax_muon, NEVER),
    "lbfgs": Case(
        "A",
        {
            # A loop of one turn or none: filing a pair, which nearly every step does. And one for
            # products that left the range.
            "jopt": lambda: by_update(
                jopt.lbfgs(1.0, max_iter=1, history_size=PAIRS), jopt.apply_updates, (1,), NEVER
            ),
            # Two loops over the pairs, there and back.
            "optax": lambda: by_update(
                optax.lbfgs(1.0, memory_size=PAIRS, linesearch=None),
                optax.apply_updates,
                (PAIRS, PAIRS),
            ),
        },
    ),
    # optax has none of these four: it stores `mu` alone in a narrower dtype, and adds to narrow
    # parameters as they are.
    "adamw bfloat16": Case("A", ours(lambda: by_step(adamw(state_dtype="bfloat16")))),
    "adamw int8": Case(
        "A",
        {
            "jopt": lambda: by_step(adamw(state_dtype="int8")),
            # On other devices than CUDA's this is the same program.
            "jopt, pallas": lambda: by_step(adamw(state_dtype="int8", kernel="pallas")),
        },
    ),
    "stochastic": Case("A", ours(lambda: by_rounding(adamw())), "bfloat16"),
    "masters": Case("A", ours(lambda: by_step(jopt.master_weights(adamw()))), "bfloat16"),
}
"""Every case, by name."""
