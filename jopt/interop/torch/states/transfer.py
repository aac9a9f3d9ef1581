"""The state of a torch optimizer as jopt's state, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from jopt import optimizers
from jopt.base import CallError, CheckpointError, meant
from jopt.checkpoint.leaves import join
from jopt.core import Transform, group
from jopt.core.boxes import put_on, taken_off
from jopt.core.transform import State
from jopt.interop._given import count as given_count
from jopt.interop._given import flag, parameters
from jopt.interop.torch.build import spec_of
from jopt.interop.torch.states.lbfgs import Flat
from jopt.interop.torch.states.members import Names, Naming, naming, read_names
from jopt.interop.torch.states.numbers import (
    choices,
    groups_of,
    only_here,
    put_numbers,
    read_group,
)
from jopt.interop.torch.states.pairing import matched, names_in, placed
from jopt.interop.torch.states.rounds import Round, put_gradients, round_of
from jopt.interop.torch.states.slots import Buffers, misplaced
from jopt.interop.torch.states.targets import Target, bare, by_label, checked, targets

IMPORT, EXPORT = "import_optimizer", "export_optimizer"


def import_optimizer(
    tx: Transform,
    params: Any,
    state_dict: Mapping[str, Any],
    names: Names = None,
    *,
    count: int | None = None,
    cast: bool = False,
) -> State:
    """The state with which `tx` goes on where a torch optimizer stopped.

    **Arguments:**

    - `tx`: the transform: `interop.torch.optimizer`, or a chain or wrapper with one optimizer that
      torch has; all else in it starts as by `tx.init`. If there are several (`jopt.route`,
      `jopt.recipes`), `state_dict` is `{label: state_dict}`, by the labels of `jopt.hyperparams`.
    - `params`: the parameters, already those of the torch model.
    - `state_dict`: `optimizer.state_dict()`, of tensors or of NumPy arrays. It is only read.
    - `names`: which leaf each of torch's parameters is. A sequence: the leaves' paths in torch's
      order; no axes are turned. A mapping: torch's name, or a `Weight` with the order of the axes,
      for each path, as `flax_weights` makes it; the names are looked up in the file, and if it has
      none, the mapping's order is torch's: then `flax_weights` needs its `order=`. `None`: by the
      names in the file, with dots or slashes, and if it has none, in the order of
      `jax.tree.leaves(params)`, which sorts the keys of dicts.
    - `count`: how many steps were taken; `None` for the largest `step` in the file. SGD, Muon and
      LBFGS keep none there: with a schedule, say it.
    - `cast`: whether a buffer is rounded where jopt's slot is narrower (float64 into float32).
      Widening, as of bfloat16 moments into float32, is exact and always done.

    **What becomes of what:** a buffer goes to the slot of its parameter. `step` becomes `count`,
    and `leaf_count` where a parameter has another; a parameter without state has taken no step.
    The numbers of a torch group go to the jopt group of its leaves; how torch runs a step
    (`foreach`, `fused`, ...) and what schedulers leave there (`initial_lr`, ...) is ignored. A
    number that follows a schedule stays the schedule's, and has to be in the file what the
    schedule says at `count`. Frozen leaves may be missing in the file. `"grads"` and `"micro"`,
    as `export_optimizer` writes them, go to `jopt.accumulate`.

    **Raises:** `CheckpointError` that lists everything that does not fit: the class,
    parameters, shapes, dtypes, choices such as amsgrad, numbers that no jopt group can hold.
    `ConfigError` for `names` that do not fit `params`, or a `tx` that torch has nothing of.

    >>> import jax.numpy as jnp, numpy as np, jopt
    >>> from jopt.interop.torch import import_optimizer, optimizer
    >>> group = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.01,
    ...          "amsgrad": False, "params": [0], "param_names": ["w"]}
    >>> moments = {"step": 7.0, "exp_avg": np.ones(2, np.float32),
    ...            "exp_avg_sq": np.ones(2, np.float32)}
    >>> saved = {"state": {0: moments}, "param_groups": [group]}
    >>> state = import_optimizer(optimizer("AdamW"), {"w": jnp.zeros(2)}, saved)
    >>> int(state["adamw"]["count"]), state["adamw"]["mu"]["w"]
    (7, Array([1., 1.], dtype=float32))
    """
    if count is not None:
        count = given_count(IMPORT, "count=", count)
    flag(IMPORT, "cast", cast)
    parameters(IMPORT, params)
    found = targets(IMPORT, tx, params)
    files = by_label(IMPORT, found, state_dict)
    names = read_names(IMPORT, tx.layout(params)[0].names, names)
    state, boxes = taken_off(tx.init(params))
    for target in found:
        said = naming(IMPORT, target, names)
        state = _imported(tx, state, said, files[target.label], count, cast)
    whole: State = put_on(state, boxes)
    return whole


def export_optimizer(
    tx: Transform, params: Any, state: State, names: Names = None, *, mid_round: bool = False
) -> Any:
    """A state dict with which a torch optimizer goes on where `tx` stopped.

    For an optimizer of the same class, built over the same groups in the same order:
    `optimizer.load_state_dict(export_optimizer(tx, params, state))`.

    **Arguments:**

    - `tx`, `params`, `state`: as in `tx.update`. Of a chain or wrapper only the optimizer that
      torch has is written: torch has no place for averages. If there are several, the result
      is `{label: state_dict}`.
    - `names`: as in `import_optimizer`. A sequence is torch's order, group after group. With
      `None` or a mapping the leaves of the `"default"` group come first, then the other groups as
      they were declared, each in the order of the leaves or of the mapping. Frozen leaves are
      written only if `names` has them.
    - `mid_round`: what to do with the gradients of a round of `jopt.accumulate` that has begun.
      `False`: an error, as they would be lost. `True`: the result has two entries more, which
      torch passes over and `import_optimizer` reads: `"grads"`, by the ids of the parameters what
      `p.grad` holds in torch in a loop that divides each loss by `every`, and `"micro"`, how many
      gradients that are.

    **What is written:** CPU tensors, in the dtypes of `params`, as torch holds them (jopt's
    slots of bfloat16 parameters are float32, and are rounded), steps and scalars in at least
    float32. Numbers get the fewest digits that mean them: 0.1, not 0.10000000149. A scheduled
    number is that of the step to come, as after `scheduler.step()`; export the schedule itself
    by `export_scheduler`. Choices of how a step runs have torch's defaults.

    **Raises:** `CheckpointError` for a state of another transform, a buffer beyond the range of
    its parameter's dtype, or what torch does otherwise; `ConfigError` for `names` that do not fit.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.sgd(0.1, momentum=0.9), {"w": jnp.zeros(2)}
    >>> saved = jopt.interop.torch.export_optimizer(tx, params, tx.init(params))
    >>> saved["state"], saved["param_groups"][0]["lr"], saved["param_groups"][0]["params"]
    ({}, 0.1, [0])
    """
    flag(EXPORT, "mid_round", mid_round)
    parameters(EXPORT, params)
    found = targets(EXPORT, tx, params)
    state = bare(EXPORT, tx, params, state)
    names = read_names(EXPORT, tx.layout(params)[0].names, names)
    out = {}
    for target in found:
        said, around = naming(EXPORT, target, names), round_of(tx, target, state)
        if around is not None and around.micro and not mid_round:
            raise around.lost(EXPORT, target)
        out[target.label] = _exported(state, said, around if mid_round else None)
    return out if len(found) > 1 else out[found[0].label]


def from_state_dict(
    name: str, state_dict: Mapping[str, Any], params: Any, names: Names = None, **more: Any
) -> tuple[Transform, State]:
    """The jopt transform that a torch optimizer was, read off its state dict, and its state.

    Torch's first group gives the numbers and the choices; a group of torch's with other numbers
    becomes a jopt group of its leaves, called `group_1` and so on.

    **Arguments:** `name`, torch's class, such as `"AdamW"`: the file does not say it. The others
    are those of `import_optimizer`.

    **Returns:** the transform and the state.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.sgd(0.1, momentum=0.9), {"w": jnp.zeros(2)}
    >>> saved = jopt.interop.torch.export_optimizer(tx, params, tx.init(params))
    >>> jopt.interop.torch.from_state_dict("SGD", saved, params)[0].config["momentum"]
    0.9
    """
    if odd := more.keys() - {"count", "cast"}:
        problem, fix = f"there is no argument {min(odd)!r}", meant(min(odd), ["count", "cast"])
        raise CallError("from_state_dict", problem, expected="names, count, cast", fix=fix)
    spec = spec_of(name)
    parameters(IMPORT, params)
    factory = getattr(optimizers, spec.name)
    [target] = targets(IMPORT, factory(), params)
    groups = checked(IMPORT, state_dict)
    ours = [read_group(target, n, g) for n, g in enumerate(groups)]
    names = read_names(IMPORT, target.layout.names, names)
    members = matched(IMPORT, groups, naming(IMPORT, target, names))
    base: dict[str, Any] = ours[0] if ours else {}
    if "kernels" in spec.options and members and all(m.axes is not None for m in members):
        base = {**base, "kernels": "in_out"}
    extra = {}
    for n, numbers in enumerate(ours):
        differs = {k: v for k, v in numbers.items() if k in spec.by_name and v != base[k]}
        leaves = dict.fromkeys(m.leaf for m in members if m.group == n)
        paths = [re.escape(target.layout.names[i]) for i in leaves]
        if differs and paths:
            extra[f"group_{n}"] = group(f"^({'|'.join(paths)})$", **differs)
    tx = factory(**base, **({"groups": extra} if extra else {}))
    return tx, import_optimizer(tx, params, state_dict, names, **more)


def _imported(
    tx: Transform, state: State, said: Naming, given: Any, count: int | None, cast: bool
) -> State:
    target = said.target
    node = target.node(state)
    groups = checked(IMPORT, given)
    ours = [read_group(target, n, g) for n, g in enumerate(groups)]
    members = matched(IMPORT, groups, said)
    ids = Counter(m.id for m in members)
    lines = [f"two parameters have the id {i!r}" for i, n in ids.items() if n > 1]
    lines += [f"state for {i!r}, which is in no group" for i in given["state"] if i not in ids]
    lines += choices(target, ours) + (wrong := misplaced(target, members))
    placed_well = [] if wrong else members
    reader = _kind(target)(target, node, lines, cast)
    reader.read(placed_well, given["state"])
    node, taken = reader.counts(node, count)
    bases = [g.get("initial_lr") for g in groups]
    node = put_numbers(target, node, ours, members, taken, bases, lines)
    around = round_of(tx, target, state)
    summed = put_gradients(around, given, placed_well, lines)
    if lines:
        problem = f"the state of {target.torch} does not fit {target.label}"
        fix = "Nothing was imported."
        if any("shape: expected" in line for line in lines) and names_in(IMPORT, groups) is None:
            fix += (
                "\n  The file has no names: its order was taken to be that of "
                f"{'jax.tree.leaves(params)' if said.names is None else 'names='}."
            )
        raise CheckpointError(IMPORT, join(problem, lines), fix=fix)
    if around is not None and summed is not None:
        state = target.put(state, summed, around.keys)
    return target.put(state, reader.slots(node))


def _kind(target: Target) -> type[Buffers | Flat]:
    """What reads and writes the states of an optimizer; all do it by the same four methods."""
    return Flat if target.part.shared else Buffers


def _exported(state: State, said: Naming, around: Round | None) -> dict[str, Any]:
    import torch

    target = said.target
    node = target.node(state)
    rows = placed(EXPORT, said)
    # What torch itself has in a group, and whether its state exists before the first step.
    probe = getattr(torch.optim, str(target.part.spec.torch))([torch.zeros(1, 1)])
    blank = {k: v for k, v in probe.param_groups[0].items() if k != "params"}
    members = [m for row in rows for m in row]
    lines = only_here(target, node) + (wrong := misplaced(target, members))
    groups = groups_of(target, node, rows, blank)
    writer = _kind(target)(target, node, lines)
    entries = writer.write([] if wrong else members, bool(probe.state))
    beside: dict[str, Any] = {}
    if around is not None:
        beside = {"grads": around.gradients(members, lines), "micro": around.micro}
    if lines:
        problem = f"the state of {target.label} does not fit {target.torch}"
        raise CheckpointError(EXPORT, join(problem, lines))
    return {"state": entries, "param_groups": groups, **beside}
