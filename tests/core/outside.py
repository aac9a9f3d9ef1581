"""Optimizers as someone outside jopt writes them: with the doors, decorated and not."""

import jax.numpy as jnp

import jopt

SIGNUM = jopt.Spec(
    name="signum",
    hypers=(jopt.Hyper("learning_rate", "[0, inf)"), jopt.Hyper("momentum", "[0, 1)")),
    slots=(jopt.Slot("mu", when=lambda on: on["momentum"]),),
    options={"noisy": None},
)
DROP = jopt.Spec(name="drop", steps=False)
TURN = jopt.Spec(name="turn", hypers=(jopt.Hyper("learning_rate", "[0, inf)"),), ndim=2)
ROWS = jopt.Spec(name="rows", hypers=(jopt.Hyper("learning_rate", "[0, inf)"),), sparse="rows")


def rule(g, s, p, h):
    mu = h.momentum * s.mu + (1 - h.momentum) * g
    return -h.learning_rate * jnp.sign(mu), {"mu": mu}


def signum(learning_rate, momentum=0.9, **common):
    return jopt.leafwise(
        SIGNUM,
        rule,
        options={"noisy": False},
        learning_rate=learning_rate,
        momentum=momentum,
        **common,
    )


@jopt.configured("outside.")
def gentle(learning_rate=0.5, *, groups=None):
    return jopt.chain(jopt.clip_by_global_norm(1.0), signum(learning_rate, groups=groups))


def drop(g, s, p, h):
    return [0 * x for x in g], {}


def turn(g, s, p, h):
    x = yield g
    return -h.learning_rate * x, {}


def batch(stack, h):
    return jnp.swapaxes(jnp.swapaxes(stack, 1, 2), 1, 2)


def down(g, s, p, h):
    return -h.learning_rate * g, {}


def made():
    """One of each, anew at every call."""
    groups = {"b": jopt.group("^b$", learning_rate=0.25)}
    return {
        "leafwise": signum(0.5, groups=groups),
        "treewise": jopt.treewise(DROP, drop),
        "matrixwise": jopt.matrixwise(TURN, turn, batch, learning_rate=0.5),
        "rowwise": jopt.rowwise(ROWS, down, learning_rate=jopt.schedules.linear(1.0, 0.0, 4)),
        "decorated": gentle(0.25, groups=groups),
        "in a chain": jopt.ema(jopt.accumulate(jopt.chain(signum(0.5), gentle()), every=2)),
    }


if __name__ == "__main__":
    import pickle
    import sys

    from tests.core import outside

    with open(sys.argv[1], "rb") as file:
        arrived = pickle.load(file)
    params = {"b": jnp.ones((2, 2))}
    for name, tx in outside.made().items():
        for again in arrived[name]:
            assert again == tx, name
            assert hash(again) == hash(tx), name
            assert repr(again) == repr(tx), name
    alone = arrived["by value"]  # of a function that this process does not have
    assert float(alone.update(params, alone.init(params), params)[0]["b"][0, 0]) == -3.0
