"""What a run's logger wants of a state, as one flat dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from jopt.base import checked
from jopt.core.composed import composed
from jopt.core.groups import DEFAULT
from jopt.core.hyperparams import own_of, sites_of
from jopt.core.spec import NODE_KEYS, SEEN


@checked
def metrics(state: Any) -> dict[str, Any]:
    """Every single number that a state keeps, by name: `{"adamw/learning_rate": ..., ...}`.

    - the hyperparameters that the next update uses, `label/name`; what a group has of its own is
      at `label/group/name`;
    - what `jopt.monitor` measured, `monitor/update_norm`, `monitor/group/update_norm`;
    - the step sizes, distances and the like that optimizers find out by themselves;
    - the counts: `label/count`, `skip_nonfinite/total`, and so on.

    The values are the state's own arrays of shape (): under `jit` it costs nothing, and a logger
    takes them by `{k: float(x) for k, x in jopt.metrics(state).items()}`.

    **Arguments:** `state`: what `tx.init` or `tx.update` gave, or anything that holds it, see
    `jopt.hyperparams`, whose labels these are.

    **Raises:** `StateError` where there is no state of a jopt transform.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.chain(jopt.monitor(), jopt.scale(0.5))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> {name: float(x) for name, x in jopt.metrics(state).items()}
    {'monitor/count': 1.0, 'monitor/norm': 5.0, 'scale/step_size': 0.5, 'scale/count': 1.0}
    """
    found: dict[str, Any] = {}
    for site in sites_of("metrics", state):
        own, factors = own_of(site)
        for group in dict.fromkeys((*own, *factors)):
            held = composed(site.label, own, factors, () if group == DEFAULT else (group,))
            for name in (*own.get(group, ()), *factors.get(group, ())):
                found[_name(site.label, group, name)] = held[name]
        if not site.injected:
            groups = {DEFAULT, *own, *factors}
            found |= {_name(site.label, *at): x for *at, x in _scalars(site.node, groups)}
    return found


def _scalars(node: Mapping[str, Any], groups: set[str]) -> Iterator[tuple[Any, ...]]:
    """The counts and the group's single numbers among the entries of a node, with their places."""
    for key, entry in node.items():
        if key == SEEN:
            yield from ((group, k, x) for group, own in entry.items() for k, x in own.items())
        elif key == "count" or (key not in NODE_KEYS and not isinstance(entry, Mapping)):
            if _is_scalar(entry):
                yield DEFAULT, key, entry
        elif key not in NODE_KEYS and entry and {*entry} <= groups:
            yield from ((group, key, x) for group, x in entry.items() if _is_scalar(x))


def _is_scalar(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.shape(x) == () and jnp.issubdtype(x.dtype, jnp.number)


def _name(label: str, group: str, name: str) -> str:
    return "/".join((label, name) if group == DEFAULT else (label, group, name))
