"""What optimizers of matrices and of little memory cost a step, compiled for an H100.

    python -m tests.benchmarks.frontier --target h100 --cases soap,shampoo

Compiled, not run. `rest` is a step at which nothing is refreshed, `refresh` one at which all is:
bases, roots, projections. `arithmetic` are the operations of the matrix products of a step, from
what is traced, on average over the steps between refreshes, over the numbers; decompositions
have none of their own. What the first step alone does is in no figure. `docs/choosing.md` has the
table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, NamedTuple

import jax

import jopt
from tests.benchmarks import targets
from tests.benchmarks.cases import Step, by_update
from tests.benchmarks.compiled import compiled
from tests.benchmarks.reports import arguments, as_they_come, names, note, number
from tests.benchmarks.traffic import Counts, count
from tests.benchmarks.trees import TREES, nbytes, size
from tests.oracles import optax_shampoo

LARGEST = 4096
"""An axis longer than this has no square array of its own: the embedding's."""


class Case(NamedTuple):
    """An optimizer, how many steps apart its refreshes are, and which way of a conditional is the
    first step's alone, if one is.
    """

    make: Callable[[], Any]
    every: float = 1
    first: int | None = None
    turns: tuple[float, ...] = ()
    """What loops with no number of their own are taken to have, by how deep they lie."""
    order: tuple[float, ...] = ()
    """The same in their order, where the first is one of one turn or none, at refreshes."""
    once: bool = False
    """Whether refreshes are loops of one turn or none, and `turns` those of loops within them."""


NEWTON = 18
"""The turns of coupled Newton for the fourth root of a singular factor, at the default ridge."""


def beside_adamw(tx: Any, **on: Any) -> Any:
    """For the layers' matrices, AdamW for the rest."""
    matrices = "(query|key|value|output|up|down)$"
    return jopt.route(jopt.adamw(1e-3, **on), matrices=(matrices, tx))


def theirs() -> Any:
    """optax-shampoo's, its numbers ours."""
    shampoo = optax_shampoo.package()
    return shampoo.distributed_shampoo(
        1e-3,
        1024,
        beta2=0.999,
        start_preconditioning_step=1,
        preconditioning_compute_steps=10,
        best_effort_shape_interpretation=False,
        graft_type=shampoo.GraftingType.RMSPROP,
        moving_average_for_momentum=True,
        nesterov=False,
        skip_preconditioning_rank_lt=2,
        generate_training_metrics=False,
    )


CASES = {
    "adamw": Case(lambda: jopt.adamw(1e-3)),
    "lion": Case(lambda: jopt.lion(1e-4)),
    "muon+adamw": Case(jopt.recipes.muon_adamw),
    "normuon+adamw": Case(lambda: beside_adamw(jopt.normuon(2e-2))),
    "dion2+adamw": Case(lambda: beside_adamw(jopt.dion2(1e-2))),
    "soap": Case(lambda: jopt.soap(max_size=LARGEST), 10, first=1, once=True),
    "kl_shampoo+adamw": Case(lambda: beside_adamw(jopt.kl_shampoo()), 10, first=1, once=True),
    "shampoo": Case(lambda: jopt.shampoo(1e-3), 10, once=True),
    "shampoo newton": Case(
        lambda: jopt.shampoo(1e-3, method="newton"), 10, turns=(NEWTON,), once=True
    ),
    "kron": Case(lambda: jopt.kron(max_size=LARGEST), 1 / 0.03, once=True),
    "adafactor": Case(lambda: jopt.adafactor(1e-2)),
    "came": Case(lambda: jopt.came(2e-4)),
    "adam_mini": Case(lambda: jopt.adam_mini(1e-3)),
    "apollo": Case(lambda: jopt.apollo(1e-2), 200),
    "apollo mini": Case(lambda: jopt.apollo(1e-2, rank=1, per="tensor", scale=128.0), 200),
    "galore+adamw": Case(lambda: jopt.galore(beside_adamw(jopt.adamw(1e-3))), 200, once=True),
}
"""The optimizers, with their own numbers where none stand here."""

I8: dict[str, Any] = {"state_dtype": "int8"}
MORE = {
    "soap int8": Case(lambda: jopt.soap(max_size=LARGEST, **I8), 10, first=1, once=True),
    "kl_shampoo+adamw int8": Case(
        lambda: beside_adamw(jopt.kl_shampoo(**I8), **I8), 10, first=1, once=True
    ),
    "shampoo int8": Case(lambda: jopt.shampoo(1e-3, **I8), 10, once=True),
    "kron int8": Case(lambda: jopt.kron(max_size=LARGEST, **I8), 1 / 0.03, once=True),
    "optax-shampoo": Case(theirs, 10, turns=(NEWTON, 3), order=(1, NEWTON, NEWTON, 3)),
}
"""Those that are measured when asked for, the last with `pip install optax-shampoo`."""

HEADS = (
    "update",
    "kernels",
    "at a refresh",
    "bytes moved",
    "at a refresh",
    "bytes of state",
    "temporary bytes",
    "arithmetic",
)


def arithmetic(step: Step, tree: Any, case: Case) -> float:
    """The operations of matrix products of a step, on average, for each number."""
    state = jax.eval_shape(step.init, tree)
    jaxpr = jax.make_jaxpr(step.run)(tree, state, tree).jaxpr
    rest, most = products(jaxpr, case.first, case.turns, bool(case.order) or case.once)
    return (rest + (most - rest) / case.every) / size(tree)


def products(
    jaxpr: Any, first: int | None = None, turns: tuple[float, ...] = (), by_loop: bool = False
) -> tuple[float, float]:
    """Operations of a program's matrix products: the fewest that a call does, and the most.

    The first step is no such call. `turns` are those of loops that go on until something holds,
    and of such within them; `by_loop` says that those outside have one turn, or none.
    """
    rest = most = 0.0
    made_by = {var: e for e in jaxpr.eqns for var in e.outvars}
    for e in jaxpr.eqns:
        name = e.primitive.name
        if name == "dot_general":
            (contracted, _), _ = e.params["dimension_numbers"]
            shape = e.invars[0].aval.shape
            n = 2.0 * prod(e.outvars[0].aval.shape) * prod(shape[i] for i in contracted)
            rest, most = rest + n, most + n
            continue
        within = turns[1:] if name == "while" and not by_loop else turns
        outside = by_loop and name != "while"
        each = [products(inner, first, within, outside) for inner in inside(e)]
        if name == "while" and by_loop:
            most += sum(n for _, n in each)
        elif name == "cond" and each:
            given = e.invars[0]
            maker = None if hasattr(given, "val") else made_by.get(given)
            # Where platforms differ the last way is that of GPUs.
            on_platform = maker and maker.primitive.name == "platform_index"
            of = each[-1:] if on_platform else later(each, first)
            rest, most = rest + min(n for n, _ in of), most + max(n for _, n in of)
        else:
            often = {"scan": e.params.get("length", 1), "while": (*turns, 0)[0]}.get(name, 1)
            rest += often * sum(n for n, _ in each)
            most += often * sum(n for _, n in each)
    return rest, most


def inside(e: Any) -> list[Any]:
    """The programs within an equation."""
    found = [*e.params.get("branches", ())]
    found += [x for k, x in e.params.items() if k.endswith("jaxpr") and x is not None]
    return [getattr(x, "jaxpr", x) for x in found]


def later(ways: Iterable[Any], first: int | None) -> list[Any]:
    """The ways of a conditional that steps after the first take."""
    return [x for i, x in enumerate(ways) if i != first]


def row(name: str, target: str, tree_name: str) -> list[str]:
    """One line of the table."""
    case = (CASES | MORE)[name]
    step = by_update(case.make(), jopt.apply_updates)
    tree = TREES[tree_name]()
    program = compiled(step, tree, target).program
    text, n = program.as_text(), size(tree)

    def counted(pick: Any) -> Counts:
        due = float(pick is max)
        order = (due, *case.order[1:]) if case.order else ()
        rest = (due, *case.turns) if case.once else (*case.turns, 0)[0]
        return count(text, order, rest, lambda ways, key: pick(later(ways, case.first), key=key))

    rest, most = counted(min), counted(max)
    figures = (
        *(rest.kernels, most.kernels, rest.bytes / n, most.bytes / n),
        nbytes(jax.eval_shape(step.init, tree)) / n,
        program.memory_analysis().temp_size_in_bytes / n,
        arithmetic(step, tree, case),
    )
    return [f"`{name}`", *(number(round(x, 2)) for x in figures)]


def main() -> None:
    """Print the table."""
    parser = arguments("frontier", __doc__)
    parser.add_argument("--target", choices=targets.TARGETS, default="h100")
    parser.add_argument("--cases", type=names(CASES | MORE), default=list(CASES))
    parser.add_argument("--tree", choices=TREES, default="A")
    said = parser.parse_args()
    targets.set_up([said.target])

    def rows() -> Iterator[list[str]]:
        for name in said.cases:
            note(f"compiling {name}")
            yield row(name, said.target, said.tree)

    as_they_come(HEADS, rows())


if __name__ == "__main__":
    main()
