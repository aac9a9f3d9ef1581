"""optax's optimizer states as jopt's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import StateError, checked
from jopt.checkpoint.leaves import flatten, join, rebuild
from jopt.core import State, Transform, hyperparams, set_hyperparams
from jopt.core.boxes import put_on, taken_off
from jopt.core.groups import DEFAULT
from jopt.core.hyperparams import nodes
from jopt.core.nested import nest
from jopt.core.numbers import is_schedule
from jopt.core.part import SpecPart
from jopt.core.paths import Path, shown
from jopt.core.spec import NODE_KEYS
from jopt.core.transform import Node, Part, check_transform
from jopt.core.tree import Tree
from jopt.interop.optax.moves import as_stored, match
from jopt.interop.optax.own_counts import OwnCounts, counting, fast_and_slow, fill_own
from jopt.interop.optax.split import joined, parted
from jopt.interop.optax.states import Contents, read

_OFF = {"eps_root": 0.0}
"""Numbers of optax's that jopt has no name for, and their value where they do nothing."""

_ONCE = frozenset({"initial_accumulator_value", "initial_scale"})
"""Numbers that only optax's `init` reads."""


@checked
def import_state(
    tx: Transform, params: Tree, optax_state: Tree, *, count: int | None = None
) -> State:
    """The state of `tx` that goes on where an optax optimizer stood.

    What is known: the states of `adam`, `adamw`, `amsgrad`, `adamax`, `nadam`, `radam`, `sgd`,
    `rmsprop`, `adagrad`, `adadelta`, `adafactor`, `adabelief`, `adan`, `fromage`, `lamb`, `lars`,
    `lion`, `noisy_sgd`, `novograd`, `optimistic_adam_v2`, `optimistic_gradient_descent`,
    `polyak_sgd`, `rprop`, `sign_sgd`, `signum`, `sm3`, `yogi` and `lbfgs`, of both line searches,
    and of `contrib`'s `acprop`,
    `ademamix`, `simplified_ademamix`, `adopt`, `cocob`, `dadapt_adamw`, `dog`, `dowg`, `madgrad`,
    `momo`, `momo_adam`, `muon`, `prodigy` and `sophia`, in any `chain` or `named_chain` with what
    has no state (clipping, `add_decayed_weights`, `scale`) and with schedules; inside
    `inject_hyperparams`, `masked`, `partition`, `MultiSteps`, `galore`, `mechanize`, `sam`,
    `schedule_free`, `apply_if_finite`, `lookahead`, `conditionally_mask`,
    `conditionally_transform` and `split_real_and_imaginary`. optax need not be installed: states
    are known by the names of their types, or of their fields if they went through
    `flax.serialization` or orbax.

    The moments are carried over as they are, with four exceptions. A trace that ends its chain,
    as in `optax.rmsprop`, has the learning rate in it and is divided by minus that.
    `amsgrad`'s maximum, over corrected moments in optax, is scaled so that the next step
    agrees. Factored moments may change axes, and full ones are factored. The mean of
    `MultiSteps` becomes the sum.

    **Arguments:**

    - `tx`: the jopt transform that takes over, with the numbers that optax has in closures:
      learning rate, schedules, decay. Where they are data (`inject_hyperparams`) they are taken.
    - `params`: the parameters; of `lookahead` as optax has them, `LookaheadParams` with the slow
      weights, which are state here. Back they go by `jopt.eval_params`.
    - `optax_state`: the state, with its types or as a dict of fields, on device or host.
    - `count`: how many steps have been taken. Needed only where optax does not keep it (`sgd`,
      `rmsprop`, `adagrad`, `adadelta`, without a schedule).

    **Returns:** a state that shares no memory with `optax_state`.

    **Raises:** `StateError` for a state that is not understood, with its structure; for one of
    another optimizer, with every leaf missing or spare; for counters that disagree.

    >>> import jax.numpy as jnp, jopt, optax
    >>> import jopt.interop.optax
    >>> params, theirs = {"w": jnp.ones(2)}, optax.sgd(0.1, momentum=0.9)
    >>> _, old = theirs.update(params, theirs.init(params))
    >>> tx = jopt.sgd(0.1, momentum=0.9)
    >>> jopt.interop.optax.import_state(tx, params, old, count=1)["sgd"]["momentum_buffer"]
    {'w': Array([1., 1.], dtype=float32)}
    """
    who = "import_state"
    check_transform(who, tx)
    _, theirs = joined(who, optax_state)
    params, slow = fast_and_slow(params)
    theirs.slow = None if slow is None else flatten(who, slow)
    state, boxes = taken_off(tx.init(params))
    known, own = _agreed(who, theirs, count), OwnCounts(who, theirs)
    layout, leaves = tx.layout(params)
    state = _aged(who, tx.parts, state, known, own)
    own.check_all_taken()
    state = _injected(who, tx, state, theirs)
    shapes = dict(zip(layout.paths, leaves, strict=True))
    values = flatten(who, state)
    held = {h.path: h.value for h in theirs.slots}
    for move in match(who, tx.parts, state, shapes, theirs):
        like = values[move.ours]
        made = move.make() if move.make else held[move.theirs or ()]
        made = move.into(made) if move.into else made
        stored = as_stored(who, move.ours, made, like)
        values[move.ours] = stored if move.factor == 1 else stored * move.factor
    whole: State = put_on(nest(values, values.values()), boxes)
    return whole


def export_state(tx: Transform, params: Tree, state: State, like: Tree) -> Tree:
    """A jopt state as the state of the optax optimizer that it corresponds to.

    **Arguments:**

    - `tx`, `params`, `state`: jopt's.
    - `like`: the optax state to fill: `optax_tx.init(params)`. It is not changed.

    **Returns:** `like` with jopt's moments, counters and, under `inject_hyperparams`, numbers.

    **Raises:** `StateError` if `like` is of another optimizer, or if optax has no such state:
    leaves of different ages, and the factored moments of `adafactor`.

    >>> import jax.numpy as jnp, jopt, optax
    >>> import jopt.interop.optax
    >>> params = {"w": jnp.ones(2)}
    >>> tx, theirs = jopt.sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> like = theirs.init(params)
    >>> jopt.interop.optax.export_state(tx, params, state, like)[0].trace
    {'w': Array([1., 1.], dtype=float32)}
    """
    who = "export_state"
    check_transform(who, tx)
    params, _ = fast_and_slow(params)
    state, _ = taken_off(state)
    tx.check_labels(state, params)
    whole, theirs = joined(who, like)
    layout, leaves = tx.layout(params)
    aged = [
        label
        for label, node in nodes(state)
        if any(int(n) != int(node["count"]) for n in jax.tree.leaves(node.get("leaf_count")))
    ]
    if aged:
        raise StateError(who, "optax has one age for all leaves", path=f"{aged[0]}/leaf_count")
    own, values = flatten(who, state), flatten(who, whole)
    shapes = dict(zip(layout.paths, leaves, strict=True))
    _fill_scalars(who, tx, state, theirs, values)
    theirs = replace(read(who, rebuild(who, whole, values)), split=theirs.split)
    for move in match(who, tx.parts, state, shapes, theirs):
        if move.theirs is None:
            if move.told:
                continue
            raise StateError(
                who, "jopt keeps factored moments, optax's cannot be told", path=shown(move.ours)
            )
        value = own[move.ours] if move.factor == 1 else own[move.ours] / move.factor
        value = move.back(value) if move.back else value
        values[move.theirs] = jnp.asarray(value, values[move.theirs].dtype)
    return parted(rebuild(who, whole, values), like)


def _agreed(who: str, theirs: Contents, count: int | None) -> int | None:
    """The one number of steps, told by the caller or by optax."""
    found = {path: int(n) - (path in theirs.ahead) for path, n in theirs.counts.items()}
    found |= {path: 0 for path, fresh in theirs.fresh.items() if fresh}
    told = set(found.values())
    if len(told) > 1 if count is None else told and count not in told:
        lines = [f"{shown(path)}: {value}" for path, value in found.items()]
        raise StateError(
            who,
            join("jopt has one counter of steps, optax's do not agree", lines),
            expected="one number" if count is None else f"{count}, as count= says",
            fix="Say how many steps the optimizer has taken: count=...",
        )
    return count if count is not None else next(iter(told), None)


def _aged(
    who: str, parts: Mapping[str, Part], state: State, steps: int | None, own: OwnCounts
) -> State:
    """A fresh state with the counter, and what its schedules give next."""
    aged: State = {}
    for label, part in parts.items():
        node: Node = dict(state[label])
        count = own.told(part, steps) if "count" in node else steps
        if "count" in node:
            # Of a rule that does not read it nobody may know it: it counts from here on.
            free = isinstance(part, SpecPart) and not (part.ticks or part.store.rounds)
            if count is None and (not free or "schedules" in node):
                raise StateError(
                    who,
                    f"optax keeps no count of steps here, and jopt.{part.name} does",
                    fix="Say how many steps have been taken: count=...",
                )
            node["count"] = jnp.asarray(count or 0, node["count"].dtype)
            if "leaf_count" in node:  # reserved by `skips=`
                node["leaf_count"] = jax.tree.map(
                    lambda _, n=node["count"]: jnp.array(n, copy=True), node["leaf_count"]
                )
        if "schedules" in node and isinstance(part, SpecPart):
            node["schedules"] = _next(part, node["schedules"], count or 0)
        if part.wrapped:
            node["inner"] = _aged(who, part.wrapped, node["inner"], steps, own)
        aged[label] = node
    return aged


def _next(part: SpecPart, schedules: Mapping[str, Any], step: int) -> dict[str, Any]:
    own = {DEFAULT: part.numbers, **{label: g.numbers for label, g in part.groups.items()}}
    new: dict[str, Any] = {}
    for group, memories in schedules.items():
        for name, memory in memories.items():
            schedule, old = own[group][name], memory["value"]
            if set(memory) == {"value"} and callable(schedule) and is_schedule(schedule):
                memory = {"value": jnp.asarray(schedule(jnp.int32(step)), old.dtype)}
            new.setdefault(group, {})[name] = memory
    return new


def _injected(who: str, tx: Transform, state: State, theirs: Contents) -> State:
    """The state with the numbers that `inject_hyperparams` keeps."""
    for path, value in theirs.numbers.items():
        name = path[-1]
        labels = [k for k, own in hyperparams(state).items() if name in own.get(DEFAULT, {})]
        if len(labels) > 1:
            raise StateError(
                who,
                f"several transforms have the number {name}",
                path=shown(path),
                found=", ".join(labels),
                fix="Import them one by one, each from its own part of the optax state.",
            )
        if labels:
            if name in dict(nodes(state))[labels[0]].get("hyperparams", {}).get(DEFAULT, {}):
                state = set_hyperparams(state, label=labels[0], **{name: value})
        elif name not in _ONCE and float(value) != _OFF.get(name):
            raise StateError(
                who,
                f"optax keeps a number {name} that {tx!r} does not have",
                path=shown(path),
                expected=", ".join(sorted(_numbers(state))) or "no numbers",
                found=float(value),
            )
    return state


def _numbers(state: State) -> set[str]:
    return {
        name for own in hyperparams(state).values() for values in own.values() for name in values
    }


def _fill_scalars(
    who: str, tx: Transform, state: State, theirs: Contents, values: dict[Path, Any]
) -> None:
    """Counters and numbers of jopt's, written into the leaves of an optax state."""
    fill_own(who, tx.parts, state, theirs, values)
    apart = [node for _, node in counting(tx.parts, state)]
    counted = [n for _, n in nodes(state) if "count" in n and not any(n is m for m in apart)]
    # What has no slots, such as clipping, may come from an older file without its count.
    aged = [node for node in counted if node.keys() - NODE_KEYS] or counted
    counts = {int(node["count"]) for node in aged}
    if (theirs.counts or theirs.fresh) and len(counts) != 1:
        raise StateError(
            who,
            "optax keeps a count of steps here",
            expected="one count in jopt's state",
            found=", ".join(map(str, sorted(counts))) or "none",
        )
    for path, old in theirs.counts.items():
        values[path] = jnp.asarray(min(counts) + (path in theirs.ahead), np.asarray(old).dtype)
    for path, old in theirs.fresh.items():
        values[path] = jnp.asarray(min(counts, default=0) == 0, np.asarray(old).dtype)
    for path, old in theirs.numbers.items():
        own = [v[DEFAULT] for v in hyperparams(state).values() if path[-1] in v.get(DEFAULT, {})]
        if len(own) == 1:
            values[path] = jnp.asarray(own[0][path[-1]], np.asarray(old).dtype)
    for _, node in nodes(state):
        for held in theirs.slots:
            if held.slot in ("micro", "in_a_row") and held.slot in node:
                values[held.path] = jnp.asarray(node[held.slot], held.value.dtype)
                beside = (*held.path[:-1], "last_finite")
                if held.slot == "in_a_row" and beside in values:
                    values[beside] = node[held.slot] == 0
