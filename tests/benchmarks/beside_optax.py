"""Compiles every optimizer that optax has, too, and counts what the programs cost on an H100.

    python -m tests.benchmarks.beside_optax --json tests/benchmarks/results/beside_optax.json

`cases` has the updates with budgets; these have optax's as their budget. A file that is there keeps
the rows that are not measured again. What costs more than in optax is printed last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

import jopt
from tests.benchmarks import compiled, targets
from tests.benchmarks.budgets import Row
from tests.benchmarks.cases import NEVER, Case, Step, by_update
from tests.benchmarks.reports import arguments, markdown, names, note, number, read, say, write

TREE = "A"
COLUMNS = ("kernels", "bytes", "temporary")
"""Of what an update is to cost no more than optax's."""

RANK = 128
"""Of GaLore in both: the defaults are others."""


def pair(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    rest: float | None = None,
    tree: str = TREE,
    **extra: Any,
) -> Case:
    """Two transforms that are called alike."""

    def by(tx: Any, apply: Callable[[Any, Any], Any]) -> Any:
        return by_update(tx, apply, rest=rest, **extra)

    return Case(
        tree,
        {
            "jopt": lambda: by(ours(), jopt.apply_updates),
            "optax": lambda: by(theirs(), optax.apply_updates),
        },
    )


def alike(name: str, *given: float, **how: Any) -> Case:
    """An optimizer that has one name in both."""
    found = getattr(optax, name, None) or getattr(contrib, name)
    return pair(lambda: getattr(jopt, name)(*given), lambda: found(*given), **how)


def loss(params: Any) -> Any:
    """Of which Sophia takes second derivatives; they are of each parameter alone, and cheap."""
    return sum(jnp.sum(jnp.square(jnp.square(x))) for x in jax.tree.leaves(params))


def looking_ahead() -> Step:
    """optax's lookahead, whose slow weights are no state: here they are, as ours."""
    tx = optax.lookahead(optax.adam(1e-3), 6, 0.5)

    def init(params: Any) -> Any:
        return {"state": tx.init(optax.LookaheadParams.init_synced(params)), "slow": params}

    def run(params: Any, held: Any, grads: Any) -> tuple[Any, Any]:
        both = optax.LookaheadParams(params, held["slow"])
        updates, state = tx.update(grads, held["state"], both)
        fast, slow = optax.apply_updates(both, updates)
        return fast, {"state": state, "slow": slow}

    return Step(init, run)


VALUE = {"value": 1.0}
BESIDE = {
    "adabelief": alike("adabelief", 1e-3),
    "adadelta": alike("adadelta", 1.0),
    "adagrad": alike("adagrad", 1e-3),
    "adam": alike("adam", 1e-3),
    "adam(amsgrad=True)": pair(lambda: jopt.adam(1e-3, amsgrad=True), lambda: optax.amsgrad(1e-3)),
    "adam(nesterov=True)": pair(lambda: jopt.adam(1e-3, nesterov=True), lambda: optax.nadam(1e-3)),
    "adamw(nesterov=True)": pair(
        lambda: jopt.adamw(1e-3, nesterov=True), lambda: optax.nadamw(1e-3)
    ),
    "adamax": alike("adamax", 1e-3),
    "adamax(decoupled=True)": pair(
        lambda: jopt.adamax(1e-3, weight_decay=1e-2, decoupled=True),
        lambda: optax.adamaxw(1e-3, weight_decay=1e-2),
    ),
    "adan": alike("adan", 1e-3),
    "fromage": alike("fromage", 1e-3, rest=NEVER),
    "lars": alike("lars", 1e-3, rest=NEVER),
    "noisy_sgd": alike("noisy_sgd", 1e-3, tree="small"),
    "novograd": alike("novograd", 1e-3, rest=NEVER),
    "optimistic_adam": pair(
        lambda: jopt.optimistic_adam(1e-3), lambda: optax.optimistic_adam_v2(1e-3)
    ),
    "optimistic_gradient_descent": alike("optimistic_gradient_descent", 1e-3),
    "polyak_sgd": alike("polyak_sgd", rest=NEVER, **VALUE),
    "radam": alike("radam", 1e-3),
    "rmsprop": alike("rmsprop", 1e-3),
    "rmsprop(momentum=0.9)": pair(
        lambda: jopt.rmsprop(1e-3, momentum=0.9), lambda: optax.rmsprop(1e-3, momentum=0.9)
    ),
    "rprop": alike("rprop", 1e-3),
    "sgd": alike("sgd", 1e-3),
    "sgd(momentum=0.9)": pair(
        lambda: jopt.sgd(1e-3, momentum=0.9), lambda: optax.sgd(1e-3, momentum=0.9)
    ),
    "sign_sgd": alike("sign_sgd", 1e-3),
    "signum": alike("signum", 1e-3),
    "sm3": alike("sm3", 1e-3),
    "yogi": alike("yogi", 1e-3),
    "acprop": alike("acprop", 1e-3),
    "ademamix": alike("ademamix", 1e-3),
    "simplified_ademamix": alike("simplified_ademamix", 1e-3),
    "adopt": alike("adopt", 1e-3),
    "cocob": alike("cocob"),
    "dadapt_adamw": alike("dadapt_adamw"),
    "dog": alike("dog"),
    "dowg": alike("dowg"),
    "madgrad": alike("madgrad", 1e-3),
    "momo": alike("momo", **VALUE),
    "momo_adam": alike("momo_adam", **VALUE),
    "sophia": pair(
        lambda: jopt.sophia(1e-3),
        lambda: contrib.sophia(1e-3),
        1 / 10,
        "small",
        often=1 / 10,
        value_fn=loss,
        obj_fn=loss,
    ),
    "galore(adamw)": pair(
        lambda: jopt.galore(jopt.adamw(1e-3), rank=RANK, side="longer"),
        lambda: contrib.galore(1e-3, rank=RANK, weight_decay=1e-2),
        1 / 200,
        often=1 / 200,
    ),
    "lookahead(adam)": Case(
        TREE,
        {
            "jopt": lambda: by_update(jopt.lookahead(jopt.adam(1e-3)), jopt.apply_updates),
            "optax": looking_ahead,
        },
    ),
    "mechanize(adam)": pair(
        lambda: jopt.mechanize(jopt.adam(1e-3)),
        lambda: contrib.mechanize(optax.adam(1e-3)),
        NEVER,
    ),
    "sam(sgd, in_turn=True)": pair(
        lambda: jopt.sam(jopt.sgd(1e-3), rho=0.1, in_turn=True),
        lambda: contrib.sam(optax.sgd(1e-3), optax.chain(contrib.normalize(), optax.sgd(0.1))),
        NEVER,
    ),
    "schedule_free(rmsprop)": pair(
        lambda: jopt.schedule_free(
            jopt.rmsprop(2.5e-3, 0.999, bias_correction=True, decoupled=True), 2.5e-3
        ),
        contrib.schedule_free_adamw,
    ),
    "schedule_free(sgd)": pair(
        lambda: jopt.schedule_free(jopt.sgd(1.0), 1.0), contrib.schedule_free_sgd
    ),
}
"""The updates, by jopt's name for them."""


def measure(name: str, case: Case, by: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a case, without seconds."""
    for who in by:
        step, shapes = case.steps[who](), case.shapes()
        found = compiled.row(step, shapes, [compiled.compiled(step, shapes, "h100")])
        kept = {c: x for c, x in found.items() if c not in compiled.SECONDS}
        yield {"target": "h100", "case": name, "tree": case.tree, "by": who} | kept


def above(rows: Sequence[Row]) -> Iterator[tuple[str, str, float, float]]:
    """What costs more than in optax, in the digits that the page shows: both figures."""
    found = {(r["case"], r["by"]): r for r in rows}
    for (case, by), ours in found.items():
        if by != "jopt" or (case, "optax") not in found:
            continue
        for column in COLUMNS:
            a, b = (round(r[column], 2) for r in (ours, found[case, "optax"]))
            if a > b:
                yield case, column, a, b


def in_order(rows: Sequence[Row]) -> list[Row]:
    """The rows in the order of the cases; of several with one name the last."""
    found = {(r["case"], r["by"]): r for r in rows}
    return [found[case, by] for case in BESIDE for by in compiled.LIBRARIES if (case, by) in found]


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("beside_optax", __doc__)
    parser.add_argument("--cases", type=names(BESIDE), default=list(BESIDE))
    parser.add_argument("--by", type=names(compiled.LIBRARIES), default=list(compiled.LIBRARIES))
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    chosen = parser.parse_args(given)
    targets.set_up(["h100"])
    rows: list[dict[str, Any]] = []
    for name in chosen.cases:
        note(f"compiling {name}")
        rows += measure(name, BESIDE[name], chosen.by)
        if chosen.json:
            held = read(chosen.json) if chosen.json.exists() else []
            write(chosen.json, in_order([*held, *rows]))
    say(f"{compiled.table(rows, 'h100')}\n")
    lines = [(case, column, number(a), number(b)) for case, column, a, b in above(rows)]
    say(markdown(("more than in optax", "", "jopt", "optax"), lines))


if __name__ == "__main__":
    main()
