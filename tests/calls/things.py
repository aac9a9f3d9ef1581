"""What people put into the wrong place."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jopt

P = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}
TX = jopt.adam(1e-3)
STATE = TX.init(P)


class Odd:
    """Of no kind that anything takes; it refuses to be compared, as some arrays do."""

    def __repr__(self):
        return "<odd>"

    def __eq__(self, other):
        raise TypeError("odd things are not compared")

    __hash__ = None


THINGS = {
    "none": None,
    "yes": True,
    "no": False,
    "number": 3,
    "zero": 0,
    "negative": -2.5,
    "below": -1,
    "long": 2**70,
    "long below": -(2**70),
    "nan": float("nan"),
    "infinite": float("inf"),
    "complex": 1j,
    "text": "text",
    "empty text": "",
    "open pattern": "(",
    "bytes": b"bytes",
    "list": [1, 2],
    "words": ["a", "b"],
    "empty list": [],
    "tuple": (1.5, 2),
    "empty": {},
    "dict": {"a": 1},
    "odd keys": {1: jnp.ones(2), "a": jnp.ones(2)},
    "set": {1, 2},
    "range": range(3),
    "object": object(),
    "odd": Odd(),
    "class": Odd,
    "function": lambda x: x,
    "no arguments": lambda: 1.0,
    "three arguments": lambda a, b, c: a,
    "branches": lambda x: 1.0 if x < 3 else 0.1,
    "words of a function": lambda *_: "text",
    "nothing of a function": lambda *_: None,
    "array": np.ones((2, 2)),
    "jax array": jnp.ones(3),
    "scalar": jnp.float32(0.5),
    "whole": np.int64(2),
    "bools": np.asarray([True, False]),
    "array of words": np.asarray(["a"]),
    "objects": np.asarray([None, "a"], object),
    "no entries": jnp.ones((0,)),
    "half": jnp.ones(2, jnp.bfloat16),
    "random key": jax.random.key(0),
    "shape": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "dtype": np.dtype("float16"),
    "params": P,
    "state": STATE,
    "tx": TX,
    "factory": jopt.adam,
    "group": jopt.group("w", learning_rate=1.0),
    "optax": optax.sgd(0.1, 0.9),
    "optax state": optax.sgd(0.1, 0.9).init(P),
    "schedule": jopt.schedules.linear(1.0, 0.0, 3),
    "plateau": jopt.schedules.plateau(1.0),
    "spec": jopt.Spec("things"),
    "mesh": jax.make_mesh((1,), ("data",)),
    "missing path": "no/such/file",
    "module": jopt.schedules,
}
"""Each that stands for many of its kind, by what to call it."""

TRACED = {
    "traced": jax.ShapeDtypeStruct((), jnp.float32),
    "traced whole": jax.ShapeDtypeStruct((), jnp.int32),
    "traced row": jax.ShapeDtypeStruct((3,), jnp.float32),
}
"""Of what jax traces while the call is made."""
