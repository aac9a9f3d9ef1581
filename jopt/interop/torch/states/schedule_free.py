"""States of PyPI's `schedulefree`: the base as a class of torch's own has it, and its average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import CheckpointError, ConfigError
from jopt.checkpoint.leaves import join
from jopt.core.boxes import put_on, taken_off
from jopt.core.composed import composed
from jopt.core.groups import DEFAULT
from jopt.core.nested import lookup
from jopt.core.numbers import own_at
from jopt.core.part import SpecPart
from jopt.core.transform import Node, State, Transform
from jopt.interop._given import flag, parameters
from jopt.interop.torch.states.members import Names, naming, read_names
from jopt.interop.torch.states.numbers import groups_of, put_numbers
from jopt.interop.torch.states.pairing import matched, placed
from jopt.interop.torch.states.slots import Buffers
from jopt.interop.torch.states.targets import Target, bare, checked, targets
from jopt.interop.torch.states.transfer import import_optimizer
from jopt.interop.torch.tensors import Lines, shortest

IMPORT, EXPORT = "import_schedule_free", "export_schedule_free"
PART = "schedule_free"

# What all groups of a file have to agree on, as jopt has one of each.
SHARED = ("k", "weight_sum", "lr_max", "weight_lr_power", "r", "warmup_steps", "train_mode")


def import_schedule_free(
    tx: Transform, params: Any, state_dict: Any, names: Names = None, *, cast: bool = False
) -> tuple[Any, State]:
    """The parameters and the state with which `tx` goes on where PyPI's `schedulefree` stopped.

    **Arguments:**

    - `tx`: for `AdamWScheduleFree` `jopt.schedule_free` around `jopt.rmsprop(..., decoupled=True,
      bias_correction=True)` or `jopt.adamw(..., b1=0.0)`, for `SGDScheduleFree` around `jopt.sgd`.
      A warm-up is a schedule of both learning rates, which has to say what the file does.
    - `params`: the parameters, those of the torch model.
    - `state_dict`: `optimizer.state_dict()`, of tensors or of NumPy arrays.
    - `names`, `cast`: as in `jopt.interop.torch.import_optimizer`.

    **Returns:** the parameters at which gradients are taken, and the state. They are those of the
    model after `optimizer.train()`: after `optimizer.eval()` torch's are the averages, which
    `jopt.eval_params` gives.

    **Raises:** `CheckpointError` that lists what does not fit; `ConfigError` for another `tx`.

    >>> import jax.numpy as jnp, numpy as np, jopt
    >>> group = {"lr": 0.1, "momentum": 0.5, "r": 0.0, "k": 1, "warmup_steps": 0, "lr_max": 0.1,
    ...          "train_mode": False, "weight_sum": 0.01, "weight_lr_power": 2, "weight_decay": 0,
    ...          "params": [0]}
    >>> saved = {"state": {0: {"z": np.zeros(1, np.float32)}}, "param_groups": [group]}
    >>> tx = jopt.schedule_free(jopt.sgd(0.1), 0.1)
    >>> params, state = jopt.interop.torch.import_schedule_free(tx, {"w": jnp.ones(1)}, saved)
    >>> params["w"], jopt.eval_params(state, params)["w"]
    (Array([0.5], dtype=float32), Array([1.], dtype=float32))
    """
    flag(IMPORT, "cast", cast)
    parameters(IMPORT, params)
    base, average = _both(IMPORT, tx, params)
    groups = checked(IMPORT, state_dict)
    _agree(groups)
    names = read_names(IMPORT, tx.layout(params)[0].names, names)
    plain, count = _as_torchs(base, groups, state_dict["state"])
    state = import_optimizer(tx, params, plain, names, count=count, cast=cast)
    state, boxes = taken_off(state)
    members = matched(IMPORT, groups, naming(IMPORT, average, names))
    lines: Lines = []
    reader = Buffers(average, average.node(state), lines, cast)
    held = {i: (entry or {}).get("z") for i, entry in state_dict["state"].items()}
    reader.read(members, {i: {"z": z} for i, z in held.items() if z is not None})
    node, _ = reader.counts(average.node(state), count)
    rates = [{"learning_rate": g["lr"]} for g in plain["param_groups"]]
    bases = [g["lr"] for g in groups]
    node = put_numbers(average, node, rates, members, count, bases, lines)
    if lines:
        raise CheckpointError(IMPORT, join("the state does not fit", lines))
    node = reader.slots(node)
    # A leaf that has taken no step is its own start.
    begun = {m.leaf for m in members if reader.ages.get(m.leaf)}
    beta, first = float(_mix(groups[0])), groups[0]
    known = {"mix": beta, "weight_sum": first["weight_sum"], "rate_max": max(first["lr_max"], 0.0)}
    node |= {k: {DEFAULT: jnp.asarray(v, node[k][DEFAULT].dtype)} for k, v in known.items()}
    old, told = node["hyperparams"], {"b1": beta, "weight_lr_power": first["weight_lr_power"]}
    new = {k: jnp.asarray(told.get(k, v), v.dtype) for k, v in old[DEFAULT].items()}
    node["hyperparams"] = {**old, DEFAULT: new}
    ahead = params if first["train_mode"] else _ahead(average, node, params, begun, beta)
    return ahead, put_on(dict(average.put(state, node)), boxes)


def export_schedule_free(
    tx: Transform, params: Any, state: State, names: Names = None
) -> dict[str, Any]:
    """A state dict with which PyPI's `schedulefree` goes on where `tx` stopped.

    For `AdamWScheduleFree` or `SGDScheduleFree` over a model with these parameters, in the mode
    of `optimizer.train()`. `tx`, `params`, `state`, `names`: as in `import_schedule_free` and
    `jopt.interop.torch.export_optimizer`. The learning rate is that of the step to come, with no
    warm-up.

    **Raises:** `CheckpointError` for a state that has no counterpart there.
    """
    parameters(EXPORT, params)
    base, average = _both(EXPORT, tx, params)
    state = bare(EXPORT, tx, params, state)
    own, node = base.node(state), average.node(state)
    held = composed(PART, own_at(node, average.part.numbers, {}, node["count"]), {}, ())
    numbers = {k: shortest(v) for k, v in held.items()}
    mix, weight_sum, most = (float(node[k][DEFAULT]) for k in ("mix", "weight_sum", "rate_max"))
    count, kind = int(own["count"]), str(base.part.spec.torch)
    if count and abs(mix - numbers["b1"]) > 1e-6:
        problem = "the parameters were made with another b1 than the one in force"
        told, fix = numbers["b1"], "Take a step first."
        raise CheckpointError(EXPORT, problem, expected=told, found=mix, fix=fix)
    mix = numbers["b1"]
    common = {
        "r": 0.0,
        "k": count,
        "warmup_steps": 0,
        "train_mode": True,
        "weight_sum": weight_sum,
        "lr_max": most if count else -1.0,
        "weight_lr_power": numbers["weight_lr_power"],
        "foreach": False,
    }
    names = read_names(EXPORT, tx.layout(params)[0].names, names)
    rows = placed(EXPORT, naming(EXPORT, base, names))
    groups, entries, lines = [], dict[Any, Any](), Lines()
    for made in groups_of(base, own, rows, {"betas": (0.0, 0.0)}):
        mixes = {"momentum": mix} if kind == "SGD" else {"betas": (mix, _b2(made))}
        kept = {k: made[k] for k in (*_KEPT, "lr", "weight_decay", "eps") if k in made}
        groups.append({**kept, **mixes, "scheduled_lr": made["lr"], **common})
    averages, squares = Buffers(average, node, lines), Buffers(base, own, lines)
    for m in (m for row in rows for m in row if count and m.moves):
        square = squares.entry(m).get(_BASES[kind][1])
        entries[m.id] = averages.entry(m) | ({} if square is None else {"exp_avg_sq": square})
    if lines:
        raise CheckpointError(EXPORT, join("the state does not fit", lines))
    return {"state": entries, "param_groups": groups}


def _both(who: str, tx: Any, params: Any) -> tuple[Target, Target]:
    """The base and the average of it, each with the leaves that it moves."""
    found = targets(who, tx, params)
    part = tx.parts.get(PART)
    fits = len(found) == 1 and found[0].keys == (found[0].part.name,)
    if not (isinstance(part, SpecPart) and fits and found[0].part.spec.torch in _BASES):
        raise ConfigError(
            who,
            "tx is not what schedulefree has a class for",
            expected="jopt.schedule_free of jopt.rmsprop, adamw or sgd",
            found=repr(tx)[:200],
        )
    [base] = found
    return base, Target((PART,), part, base.layout, base.params, base.groups, base.live)


# By the class of torch's that a base is: what it has that the file has not, and its squares.
_BASES: Mapping[str, tuple[dict[str, Any], str]] = {
    "RMSprop": ({"momentum": 0, "centered": False}, "square_avg"),
    "AdamW": ({"amsgrad": False}, "exp_avg_sq"),
    "SGD": ({"momentum": 0, "dampening": 0, "nesterov": False}, ""),
}
_KEPT = ("params", "param_names")


def _agree(groups: Sequence[Mapping[str, Any]]) -> None:
    for key in (*SHARED, "mix"):
        values = {_mix(g) if key == "mix" else g.get(key) for g in groups}
        said = f"{key}: expected one number in all groups, found {sorted(map(str, values))}"
        if len(values) > 1 or None in values:
            raise CheckpointError(IMPORT, said, fix="schedulefree writes it.")
    if r := groups[0]["r"]:
        problem = "steps are weighed by their number"
        raise CheckpointError(IMPORT, problem, expected="r = 0", found=r)


def _mix(group: Mapping[str, Any]) -> Any:
    return group["betas"][0] if "betas" in group else group.get("momentum")


def _b2(group: Mapping[str, Any]) -> Any:
    return group["alpha"] if "alpha" in group else group["betas"][1]


def _as_torchs(
    base: Target, groups: Sequence[Mapping[str, Any]], entries: Mapping[Any, Any]
) -> tuple[dict[str, Any], int]:
    """The file as one of the class of torch's that the base is, and the steps taken."""
    kind, first = base.part.spec.torch, groups[0]
    count, warm = int(first["k"]), int(first["warmup_steps"])
    rate = min(1.0, (count + 1) / warm) if warm else 1.0
    fits = ("betas" in first) is not (kind == "SGD")
    wanted = "jopt.rmsprop or jopt.adamw" if "betas" in first else "jopt.sgd"
    decays = any(g["weight_decay"] for g in groups) and base.part.ending.decay != "step"
    if fits and kind == "RMSprop" and (decays or not base.part.options["bias_correction"]):
        fits, wanted = False, "jopt.rmsprop(..., bias_correction=True, decoupled=True)"
    if not fits:
        problem = f"{base.label} is not the base of this file"
        raise CheckpointError(IMPORT, problem, expected=wanted, found=base.label)
    more, squared = _BASES[str(kind)]
    made = []
    for g in groups:
        kept = {k: g[k] for k in (*_KEPT, "weight_decay", "eps") if k in g}
        numbers = {"lr": g["lr"] * rate, "maximize": False, **kept, **more}
        if "betas" in g:
            b2 = g["betas"][1]
            numbers |= {"alpha": b2} if kind == "RMSprop" else {"betas": (0.0, b2)}
        made.append(numbers)
    state: dict[Any, Any] = {}
    for i, entry in entries.items():
        squares = (entry or {}).get("exp_avg_sq")
        if squared and squares is not None:
            first = {"exp_avg": squares * 0} if kind == "AdamW" else {}
            state[i] = {"step": float(count), squared: squares, **first}
    return {"state": state, "param_groups": made}, count


def _ahead(average: Target, node: Node, params: Any, begun: set[int], beta: float) -> Any:
    """y, where the parameters are x."""
    leaves, treedef = jax.tree.flatten(params)
    for i, path in enumerate(average.layout.paths):
        if i in begun:
            z = np.asarray(lookup(node["z"], path))
            x = np.asarray(leaves[i], z.dtype)
            leaves[i] = jnp.asarray(x + (1 - beta) * (z - x), leaves[i].dtype)
    return jax.tree.unflatten(treedef, leaves)
