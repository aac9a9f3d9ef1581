"""A `batch` that says itself what is done to all matrices at once gives what any other does."""

import jax
import jax.numpy as jnp
import numpy as np

import jopt
from jopt.core.vocabulary import RATE
from jopt.numerics import as_one

SPEC = jopt.Spec(
    "whitened",
    (RATE,),
    (
        jopt.Slot("mu", owned=True),
        jopt.Slot("gram", lambda shape, options: (min(shape), min(shape)), owned=True),
    ),
    gives="direction",
    ndim=2,
)


def rule(g, s, p, h):
    return (yield g), {}


def solved(of):
    gram, x = of
    return jnp.linalg.solve(gram + jnp.eye(gram.shape[-1])[None], x)


def batch(x, s, h):
    mu = 0.5 * s.mu + x
    gram = s.gram + x @ x.mT
    return solved((gram, mu)), {"mu": mu, "gram": gram}


def test_a_batch_that_yields_is_the_one_that_does_not():
    seen = []

    def yielding(x, s, h):
        seen.append(x.shape)
        mu, tall = 0.5 * s.mu + x, x.shape[-2] > x.shape[-1]
        wide = (lambda x: x.mT) if tall else (lambda x: x)
        gram = s.gram + (yield as_one(lambda x: wide(x) @ wide(x).mT), x)
        y = yield as_one(solved), (gram, wide(mu))
        return wide(y), {"mu": mu, "gram": gram}

    draw = np.random.default_rng(0).standard_normal
    shapes = {"a": (2, 3), "b": (2, 3), "tall": (3, 2), "layers": (4, 2, 3)}
    params = {k: jnp.asarray(draw(shape)) for k, shape in shapes.items()}
    said = {"alike": True, "learning_rate": 0.1, "axes": {"layers": "layer i o"}}
    ends = []
    for made in (batch, yielding):
        tx = jopt.matrixwise(SPEC, rule, made, **said)
        p, state = params, tx.init(params)
        for _ in range(2):
            updates, state = tx.update(params, state, p)
            p = jopt.apply_updates(p, updates)
        ends.append((p, state))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *ends)
    # What surrounds the yield is each leaf's own, and tall matrices are as they are.
    assert {(1, 2, 3), (1, 3, 2), (4, 2, 3)} <= {*seen}
