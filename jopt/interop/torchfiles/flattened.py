"""Optimizer states that name their parameters, as `torch.distributed.checkpoint` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jopt.base import CheckpointError


def numbered(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state dict with numbers for its parameters, and names as `"param_names"`.

    It may have names in place of numbers, or be flattened to `state.<name>.<key>` and
    `param_groups.<name>.<key>`. There, groups are those parameters whose numbers are the same.
    One that is numbered already is given back.

    >>> flat = {"state.w.step": 3.0, "param_groups.w.lr": 0.1}
    >>> numbered(flat)["param_groups"]
    [{'lr': 0.1, 'params': [0], 'param_names': ['w']}]
    """
    if any(str(k).startswith("param_groups.") for k in state_dict):
        state_dict = _unflattened(state_dict)
    if not is_optimizer(state_dict) or not all(
        isinstance(entry, Mapping) for entry in state_dict["state"].values()
    ):
        raise CheckpointError(
            "read_checkpoint",
            "this is no optimizer's state dict",
            expected="{'state': {...}, 'param_groups': [{'params': [...], ...}]}",
            found=", ".join(sorted(map(str, state_dict))[:12]) or "nothing",
        )
    keys = [key for group in state_dict["param_groups"] for key in group["params"]]
    if not any(isinstance(key, str) for key in keys):
        # Numbers that became text on the way, as in distributed checkpoints and in JSON.
        state = {
            int(k) if isinstance(k, str) and k.isdecimal() and k not in keys else k: v
            for k, v in state_dict["state"].items()
        }
        return {**state_dict, "state": state}
    place = {key: i for i, key in enumerate(keys)}
    if unknown := sorted(set(state_dict["state"]) - set(place)):
        raise CheckpointError(
            "read_checkpoint",
            "the state of a parameter that is in no group",
            path=str(unknown[0]),
        )
    groups = [
        {
            **group,
            "params": [place[key] for key in group["params"]],
            "param_names": [str(key) for key in group["params"]],
        }
        for group in state_dict["param_groups"]
    ]
    state = {place[key]: dict(value) for key, value in state_dict["state"].items()}
    return {"state": dict(sorted(state.items())), "param_groups": groups}


def is_optimizer(given: Any) -> bool:
    """Whether it has the form of an optimizer's state dict."""
    if not isinstance(given, Mapping) or not isinstance(given.get("state"), Mapping):
        return False
    groups = given.get("param_groups")
    return isinstance(groups, list | tuple) and all(
        isinstance(g, Mapping)
        and isinstance(g.get("params"), list)
        and all(isinstance(i, int | str) for i in g["params"])
        for g in groups
    )


def _unflattened(flat: Mapping[str, Any]) -> dict[str, Any]:
    # No key of torch's has a dot in it; names of parameters do.
    state: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        where, _, rest = str(key).partition(".")
        name, _, leaf = rest.rpartition(".")
        if where not in ("state", "param_groups") or not name:
            raise CheckpointError(
                "read_checkpoint",
                "this is no key of a flattened optimizer",
                path=str(key),
                expected="state.<name>.<key> or param_groups.<name>.<key>",
            )
        (state if where == "state" else own).setdefault(name, {})[leaf] = value
    groups: list[dict[str, Any]] = []
    for name, numbers in own.items():
        for group in groups:
            if _same(group, numbers):
                group["params"].append(name)
                break
        else:
            groups.append({**numbers, "params": [name]})
    return {"state": state, "param_groups": groups}


def _same(group: Mapping[str, Any], numbers: Mapping[str, Any]) -> bool:
    kept = {k: v for k, v in group.items() if k != "params"}
    return kept.keys() == numbers.keys() and all(_equal(v, numbers[k]) for k, v in kept.items())


def _equal(a: Any, b: Any) -> bool:
    if hasattr(a, "numel") and hasattr(b, "numel"):
        return bool(a.shape == b.shape and (a == b).all())
    return bool(a == b)
