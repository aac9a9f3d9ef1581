"""Reading the numbers in a state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from jopt.base import ConfigError, StateError, checked
from jopt.core.composed import Own, composed
from jopt.core.groups import DEFAULT, key_of
from jopt.core.makers import has_maker
from jopt.core.numbers import is_number, own_factors, own_numbers
from jopt.core.paths import shown
from jopt.core.sites import Site, sites
from jopt.core.spec_parts import spec_parts
from jopt.core.transform import Node, Transform, check_transform


def nodes(state: Any, who: str = "hyperparams") -> Iterator[tuple[str, Node]]:
    """Every node of a state, with its label as `hyperparams` gives it; `who` asks, in errors."""
    found = _sites(who, state, lambda _, node: isinstance(node, Mapping))
    return ((site.label, site.node) for site in found if not site.injected)


def _sites(who: str, state: Any, bare: Callable[[Any, Any], bool]) -> list[Site]:
    """Every site; `bare` tells of a label and its node whether it can be one without numbers."""
    found = [*sites(state)]
    if not found and not (isinstance(state, Mapping) and all(map(bare, state, state.values()))):
        raise StateError(
            who,
            "there is no state of a jopt transform in this",
            expected="what tx.init gives, by itself or in other containers",
            found=type(state).__name__,
        )
    return found


def sites_of(who: str, state: Any) -> list[Site]:
    """Every site of a state that can be a jopt transform's; `who` asks."""
    return _sites(who, state, _is_bare)


def _is_bare(label: Any, node: Any) -> bool:
    """Whether this can be a node that keeps neither numbers nor a count."""
    if not isinstance(node, Mapping):
        return False
    known = isinstance(label, str) and (label.startswith("foreign") or has_maker(label, node))
    return known or not jax.tree.leaves(node)


@checked
def hyperparams(
    state: Any, tx: Transform | None = None, params: Any = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """The numbers in force: `{label: {group: {name: scalar}}}`, inherited ones included.

    They are those that the next update uses, scheduled ones too: to log what a step uses, read
    before it. A transform that is built with another number than the state knows takes over at
    its first update, or by `jopt.extend`. The values are the state's own arrays: reading costs
    nothing under `jit`, and `float(...)` gives a Python number. Where a group multiplies
    (`jopt.times`), its number is the product; the factor is `state[label]["times"][group][name]`.

    **Arguments:** `state`: what `tx.init` or `tx.update` gave, or anything that holds it: the
    state of an `optax.chain`, `optax.MultiSteps` or the like, a `TrainState`, a list. Labels
    then tell the way: `1/adamw` is in the second transform of a chain. The numbers that
    `optax.inject_hyperparams` holds are shown too, under `inject_hyperparams`; of scheduled ones
    it knows only what the last update used.

    A group's numbers are those of leaves in that group alone. Which leaves are in several is not
    in the state: with `tx`, whose state it is, and its `params`, each set of groups in use has its
    numbers, too, under their names: `"no_decay+head"`.

    **Raises:** `StateError` where there is no state of a jopt transform; `ConfigError` for `tx`
    without `params`.

    >>> import jax.numpy as jnp, jopt
    >>> state = jopt.adamw(1e-3, weight_decay=0.1).init({"w": jnp.ones(3)})
    >>> round(float(jopt.hyperparams(state)["adamw"]["default"]["weight_decay"]), 6)
    0.1
    """
    if tx is not None:
        check_transform("hyperparams", tx)
        if params is None:
            raise ConfigError("hyperparams", "tx= goes with params=", found="no params")
        tx.check_labels(state, params)
    view: dict[str, dict[str, dict[str, Any]]] = {}
    known: dict[str, tuple[Own, Own]] = {}
    for site in sites_of("hyperparams", state):
        own, factors = known[site.label] = own_of(site)
        if own:
            view[site.label] = {
                group: composed(site.label, own, factors, () if group == DEFAULT else (group,))
                for group in (*own, *(g for g in factors if g not in own))
            }
    for here in () if tx is None else spec_parts(tx.parts, *tx.layout(params)):
        label, part = shown(here.keys), here.part
        for held in dict.fromkeys(part.labels(here.layout, here.params)):
            if len(held) > 1 and part.freezes.isdisjoint(held):
                own, factors = known[label]
                view[label][key_of(held)] = composed(label, own, factors, held)
    return view


def own_of(site: Site) -> tuple[Own, Own]:
    """The numbers of each group, and the factors; `StateError` for what is none."""
    # A state may come from a file that anybody wrote.
    node, label = site.node, site.label
    try:
        own = {DEFAULT: dict(node["hyperparams"])} if site.injected else own_numbers(node)
        factors = {} if site.injected else {g: dict(x) for g, x in own_factors(node).items()}
        rows = [(g, k, v) for of in (own, factors) for g, x in of.items() for k, v in x.items()]
        odd = [(g, k, v) for g, k, v in rows if not is_number(v)]
        odd += [(g, k, None) for g, x in factors.items() for k in x if k not in own[DEFAULT]]
    except (AttributeError, TypeError, ValueError, KeyError, IndexError):
        problem = "the numbers in this state are not kept as jopt keeps them"
        raise StateError(label, problem, expected="{group: {name: number}}") from None
    for group, name, value in odd:
        problem, path = f"{name} is not a number", f"hyperparams/{group}/{name}"
        raise StateError(label, problem, path=path, expected="a number", found=repr(value)[:100])
    return own, factors
