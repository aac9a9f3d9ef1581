"""Every schedule with arguments of wrong kinds and in wrong orders: told, or right."""

import inspect
import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt import schedules
from jopt.base import JoptError

P = {"w": jnp.ones(3), "b": jnp.ones(2)}
TX = jopt.adam(1e-3)
STATE = TX.init(P)

# What people put in the wrong place. A path is of a file that is not there.
THINGS = {
    "none": None,
    "yes": True,
    "number": 3,
    "negative": -2.5,
    "long": 10**30,
    "text": "text",
    "bytes": b"bytes",
    "list": [1, 2],
    "empty": {},
    "complex": 1j,
    "array": np.ones((2, 2)),
    "words": np.asarray(["a"]),
    "params": P,
    "state": STATE,
    "tx": TX,
    "optax": optax.sgd(0.1),
    "schedule": schedules.linear(1.0, 0.0, 3),
    "plateau": schedules.plateau(1.0),
    "factory": jopt.adam,
    "object": object(),
}


SWAPPED = ["params", "state", "tx", "text"]


def functions():
    for name, f in vars(schedules).items():
        if callable(f) and hasattr(f, "__wrapped__"):
            yield pytest.param(f, id=name)


def filled(f):
    """Calls with every thing for each argument alone, the others right; then for the first two."""
    takes = [p for p in inspect.signature(f).parameters.values() if p.kind not in (2, 4)]
    needed = [p.name for p in takes if p.default is p.empty]
    right = {name: RIGHT[name] for name in needed if name in RIGHT}
    for p in takes if len(right) == len(needed) else ():
        yield from (({**right, p.name: thing}, (p.name, k)) for k, thing in THINGS.items())
    for row in itertools.product(SWAPPED, repeat=min(len(needed), 3)):
        found = dict(zip(needed, row, strict=False))
        yield {**right, **{name: THINGS[k] for name, k in found.items()}}, row


RIGHT = {
    "schedule": schedules.constant(1.0), "schedules": [1.0, 2.0], "boundaries": [3], "steps": 4,
    "init_value": 1.0, "end_value": 0.0, "peak_value": 1.0, "value": 1.0, "total_steps": 9,
    "warmup_steps": 2, "stable_steps": 2, "decay_steps": 2, "gamma": 0.5, "step_size": 3,
    "milestones": [2], "base_value": 0.1, "max_value": 1.0, "function": lambda t: 1.0 * t,
    "values": [1.0], "swa_value": 0.1,
}  # fmt: skip


def bind(f, given):
    """Positional where they have to be."""
    takes = inspect.signature(f).parameters
    args = [v for k, v in given.items() if takes[k].kind == inspect.Parameter.POSITIONAL_ONLY]
    return args, {k: v for k, v in given.items() if takes[k].kind != 0}


def told(f, given):
    """`None` if the call is right or tells what is wrong, else what it raised."""
    args, kwargs = bind(f, given)
    try:
        f(*args, **kwargs)
    except JoptError:
        return None
    except Exception as error:
        return repr(error)[:150]
    return None


@pytest.mark.slow
@pytest.mark.parametrize("f", [*functions()])
def test_every_function_tells_what_is_wrong(f):
    raw = [(what, error) for given, what in filled(f) if (error := told(f, given))]
    assert not raw
