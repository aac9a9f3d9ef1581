"""Stages between direction and step, against plain loops of float64 from their papers."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

ETA, LAM, STEPS = 0.05, 0.1, 30
SHAPES = {"w": (4, 3), "b": (5,)}

norm = np.linalg.norm


def tree(seed):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=s) for k, s in SHAPES.items()}


PARAMS, GRADS = tree(0), [tree(i + 1) for i in range(STEPS)]


class Adam:
    """Its direction; `seen`, `nu` and `t` are what stages read of it."""

    b1, b2, eps = 0.9, 0.99, 1e-3

    def __init__(self):
        self.t, self.mu, self.nu = 0, 0.0, 0.0

    def __call__(self, g):
        self.t, self.seen = self.t + 1, g
        self.mu = self.b1 * self.mu + (1 - self.b1) * g
        self.nu = self.b2 * self.nu + (1 - self.b2) * g * g
        self.hat = self.nu / (1 - self.b2**self.t)
        return self.mu / (1 - self.b1**self.t) / (np.sqrt(self.hat) + self.eps)


class Momentum:
    """The direction of SGD with momentum."""

    b = None

    def __call__(self, g):
        self.b = g if self.b is None else 0.9 * self.b + g
        return self.b


ADAM = {"b1": Adam.b1, "b2": Adam.b2, "eps": Adam.eps}
ADAMW = partial(jopt.adamw, ETA, weight_decay=LAM, **ADAM)
SGD = partial(jopt.sgd, ETA, 0.9, weight_decay=LAM)


def same_sign(d, g, how="count"):
    m = (d * g > 0).astype(float)
    under = {"count": m.sum() + 1, "mean": max(m.sum(), 0.001 * m.size), None: m.size}[how]
    return d * m * m.size / under


def of_lamb(p, d, low=0.0, high=np.inf, most=np.inf):
    return min(np.clip(norm(p), low, high) / norm(d), most) * d


def cautious(how, p, g, rule, state):
    return p * (1 - ETA * LAM) - ETA * same_sign(rule(g), g, how)


def coupled_cautious(p, g, rule, state):
    return p - ETA * same_sign(rule(g + LAM * p), g)


def grams(p, g, rule, state):
    return p * (1 - ETA * LAM) - ETA * np.sign(g) * abs(rule(g))


def lamb(p, g, rule, state):
    return p - ETA * of_lamb(p, rule(g) + LAM * p)


def clipped_lamb(p, g, rule, state):
    return p - ETA * of_lamb(p, rule(g) + LAM * p, 0.5, 2.0, 1.5)


def lars(p, g, rule, state):
    ratio = 0.02 * norm(p) / (norm(g) + LAM * norm(p) + 1e-3)
    return p - ETA * rule(ratio * (g + LAM * p))


def stable(p, g, rule, state):
    d = rule(g)
    rms = np.sqrt(np.mean(g * g / np.maximum(rule.hat, rule.eps**2)))
    return p - ETA / max(1, rms / 0.7) * (d + LAM * p)


def clipped(p, g, rule, state):
    d = rule(g + LAM * p)
    return p - ETA * d / max(1, np.sqrt(np.mean(d * d)))


def spared(p, g, rule, state):
    d = rule(g)
    return p - ETA * d - ETA * LAM * p * (d * p >= 0)


def hyperball(p, g, rule, state):
    radius, d = state.setdefault("radius", norm(p)), rule(g)
    p = p - ETA * radius * d / norm(d)
    return radius * p / norm(p)


def projected(p, g, rule, state):
    radius = state.setdefault("radius", norm(p))
    p = p - ETA * rule(g)
    return radius * p / norm(p)


def cautious_lamb(p, g, rule, state):
    d = rule(g)
    d = of_lamb(p, d + LAM * p * (d * p >= 0))
    return p - ETA * same_sign(d, g, "mean")


def lamb_of_cautious(p, g, rule, state):
    return p - ETA * of_lamb(p, same_sign(rule(g), g) + LAM * p)


CASES = {
    "cautious": (jopt.cautious(ADAMW()), Adam, partial(cautious, "count")),
    "cautious, mean": (jopt.cautious(ADAMW(), normalize="mean"), Adam, partial(cautious, "mean")),
    "cautious, bare": (jopt.cautious(ADAMW(), normalize=None), Adam, partial(cautious, None)),
    "cautious, coupled": (
        jopt.cautious(jopt.adam(ETA, weight_decay=LAM, **ADAM)),
        Adam,
        coupled_cautious,
    ),
    "cautious, momentum": (jopt.cautious(SGD()), Momentum, coupled_cautious),
    "grams": (jopt.grams(ADAMW()), Adam, grams),
    "lamb": (jopt.trust_ratio(ADAMW()), Adam, lamb),
    "lamb, clipped": (
        jopt.trust_ratio(ADAMW(), min_norm=0.5, max_norm=2.0, max_ratio=1.5),
        Adam,
        clipped_lamb,
    ),
    "lars": (
        jopt.trust_ratio(SGD(), form="lars", trust_coefficient=0.02, trust_eps=1e-3),
        Momentum,
        lars,
    ),
    "stable": (jopt.stable(ADAMW(), max_rms=0.7), Adam, stable),
    "stable, momentum": (jopt.stable(SGD()), Momentum, clipped),
    "cautious_decay": (jopt.cautious_decay(ADAMW()), Adam, spared),
    "hyperball": (jopt.hyperball(SGD()), Momentum, hyperball),
    "hyperball, projected": (jopt.hyperball(ADAMW(), relative=False), Adam, projected),
    "in order": (
        jopt.cautious(jopt.trust_ratio(jopt.cautious_decay(ADAMW())), normalize="mean"),
        Adam,
        cautious_lamb,
    ),
    "in another": (jopt.trust_ratio(jopt.cautious(ADAMW())), Adam, lamb_of_cautious),
}


def ran(tx, params, grads):
    """The parameters after these steps, in one program."""

    @jax.jit
    def run(params, grads):
        def step(carry, g):
            return jopt.step(tx, g, carry[1], carry[0]), None

        return jax.lax.scan(step, (params, tx.init(params)), grads)[0]

    return run(params, jax.tree.map(lambda *x: jnp.stack(x), *grads))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES)
def test_the_papers_steps(case):
    tx, rule, one = CASES[case]
    found, _ = ran(tx, jax.tree.map(jnp.asarray, PARAMS), GRADS)
    for k, p in PARAMS.items():
        own, state = rule(), {}
        for g in GRADS:
            p = one(p, g[k], own, state)
        np.testing.assert_allclose(found[k], p, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_optax_has_the_same_ratio():
    ours = jopt.trust_ratio(jopt.sgd(ETA), trust_coefficient=0.5, trust_eps=0.1)
    theirs = optax.chain(
        optax.scale_by_trust_ratio(trust_coefficient=0.5, eps=0.1), optax.scale(-ETA)
    )
    params = {**jax.tree.map(jnp.asarray, PARAMS), "zero": jnp.zeros(3)}
    grads = {**jax.tree.map(jnp.asarray, GRADS[0]), "zero": jnp.ones(3)}
    want, _ = theirs.update(grads, theirs.init(params), params)
    found, _ = ours.update(grads, ours.init(params), params)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), found, want)


@pytest.mark.usefixtures("x64")
def test_around_muon():
    """What a stage makes of the steps that the optimizer takes alone."""
    muon = partial(jopt.muon, ETA, weight_decay=0.0, ns_dtype="float32")
    params = {"w": jnp.asarray(PARAMS["w"])}
    grads = {"w": jnp.asarray(GRADS[0]["w"])}
    d = -np.asarray(muon().update(grads, muon().init(params), params)[0]["w"]) / ETA
    p, g = PARAMS["w"], GRADS[0]["w"]
    ball = norm(p) * (moved := p - ETA * d) / norm(moved)
    want = {
        jopt.cautious: p - ETA * same_sign(d, g),
        jopt.grams: p - ETA * np.sign(g) * abs(d),
        jopt.trust_ratio: p - ETA * of_lamb(p, d),
        partial(jopt.hyperball, relative=False): ball,
    }
    for stage, expected in want.items():
        tx = stage(muon())
        found = jopt.step(tx, grads, tx.init(params), params)[0]["w"]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
