"""Fine-tuning a vision transformer: the example's recipe against the same made of optax's masks."""

from __future__ import annotations

import inspect
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from tests.examples.runs import ROOT

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "vision_transformer.py"))
STEPS, CAP = 30, 0.9  # a cap that so few steps reach
RATE = jopt.schedules.warmup_cosine(1e-2, 5, STEPS)
HEAD = jopt.schedules.warmup_cosine(3e-2, 10, STEPS)
FROZEN = "encoderblock_0/"
RATES = {"^embedding/": lambda t: 0.1 * RATE(t), "^head/": HEAD, "^(pos_|Transformer/)": RATE}


def of_optax(params, kept):
    """The recipe by optax's links, each masked, with `kept` for the momentum."""

    def where(*patterns):
        def all_found(path, _):
            name = "/".join(key.key for key in path)
            return all(re.search(pattern, name) for pattern in patterns)

        return jax.tree_util.tree_map_with_path(all_found, params)

    live = f"^(?!.*{FROZEN})"
    return optax.chain(
        optax.masked(optax.set_to_zero(), where(FROZEN)),
        optax.clip_by_global_norm(1.0),
        optax.masked(directions(), where(live)),
        *(optax.masked(sized(rate), where(live, at)) for at, rate in RATES.items()),
        optax.masked(kept, where(live)),
        *(
            optax.masked(
                optax.add_decayed_weights(lambda t, rate=rate: 1e-2 * rate(t)),
                where(live, at, "kernel$"),
            )
            for at, rate in RATES.items()
        ),
        optax.scale(-1.0),
    )


def sized(rate):
    return optax.scale_by_learning_rate(rate, flip_sign=False)


def directions():
    """Adafactor's, with a cap; optax's own β is of float32."""

    def beta(i, _):
        return jnp.minimum(1 - jnp.asarray(i + 1, float) ** -0.8, CAP)

    # As torch, jopt factors the last two axes, optax the longest two: here they are the same.
    factored = optax.scale_by_factored_rms(True, 0.8, 0, 0, 1e-30, beta)
    return optax.chain(factored, optax.clip_by_block_rms(1.0))


def trained(tx, params, goal):
    """The parameters after some steps towards a goal, on a way that is not straight."""

    def step(carry, t):
        p, state = carry
        t = t.astype(jax.tree.leaves(p)[0].dtype)
        grads = jax.tree.map(lambda x, y: 0.3 * (x - y) + 0.1 * jnp.sin(7 * x * y + t), p, goal)
        updates, state = tx.update(grads, state, p)
        return (optax.apply_updates(p, updates), state), None

    with jax.numpy_dtype_promotion("standard"):
        return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(STEPS))[0][0]


def vit(seed, width, heads=1):
    """The example's weights, its heads along one axis with all of them."""
    params = EXAMPLE["start"](np.random.default_rng(seed), width, heads, depth=2)
    for block in ("encoderblock_0", "encoderblock_1"):
        attention = params["Transformer"][block]["MultiHeadDotProductAttention_0"]
        for name in ("query", "key", "value"):
            of = attention[name]
            attention[name] = {"kernel": of["kernel"].reshape(width, -1), "bias": of["bias"][0]}
    return jax.tree.map(jnp.asarray, params)


def test_the_recipe_takes_under_fifteen_lines():
    lines = inspect.getsource(EXAMPLE["recipe"]).splitlines()
    assert len(lines) - len(["def", "docstring"]) < 15


def test_the_recipe_is_optaxs_masks():
    params, goal = vit(0, 8), vit(1, 8)
    ours = EXAMPLE["recipe"](RATE, HEAD, FROZEN, CAP)
    theirs = of_optax(params, optax.ema(0.9, debias=False))

    @jax.jit
    def both(params, goal):
        return trained(ours, params, goal), trained(theirs, params, goal)

    mine, want = both(params, goal)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), mine, want)
    for name, block in mine["Transformer"].items():
        same = jax.tree.map(np.array_equal, block, params["Transformer"][name])
        assert all(jax.tree.leaves(same)) == (name == "encoderblock_0")


def one_kernel(seed):
    """Entries enough that their momentum is in bfloat16."""
    return {"w": jnp.asarray(np.random.default_rng(seed).normal(size=(64, 64)))}


def test_momentum_in_bfloat16_is_rounded_by_turns_and_optaxs_decay_is_rounded(x64):
    # All else is equal: with jopt's link for the momentum optax's chain gives jopt's numbers.
    # Optax rounds to the nearest, and where its state is of bfloat16, 0.9 as well, to 0.8984.
    def of_jopt(dtype):
        more = {"b2_max": CAP, "momentum": 0.9, "multiply_by_parameter_scale": False}
        return jopt.adafactor(RATE, eps1=1e-30, state_dtype={"mu": dtype}, **more)

    def of_links(kept):
        return optax.chain(directions(), sized(RATE), kept, optax.scale(-1.0))

    runs = {
        "exact": of_jopt(None),
        "ours": of_jopt("bfloat16"),
        "with our link": of_links(jopt.average_updates(0.9, debias=False, state_dtype="bfloat16")),
        "theirs": of_links(optax.ema(0.9, debias=False, accumulator_dtype="bfloat16")),
        "theirs, 0.9 as it is": of_links(
            optax.ema(jnp.float64(0.9), debias=False, accumulator_dtype="bfloat16")
        ),
        "their decay": of_links(weighed(0.8984375)),
    }

    @jax.jit
    def all_of_them(params, goal):
        return {name: trained(tx, params, goal)["w"] for name, tx in runs.items()}

    found = all_of_them(one_kernel(0), one_kernel(1))
    np.testing.assert_allclose(found["with our link"], found["ours"], rtol=0, atol=1e-13)

    def off(name, of="exact"):
        return float(jnp.sqrt(jnp.mean((found[name] - found[of]) ** 2)))

    assert 0 < off("ours") < 3e-4
    assert off("theirs, 0.9 as it is") == pytest.approx(off("ours"), rel=0.2)
    assert off("theirs") > 3 * off("ours")
    assert off("theirs", "their decay") < off("theirs") / 2


def weighed(decay):
    """What optax's link does whose state is of bfloat16, less the rounding of the state."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(updates, state, params=None):
        state = jax.tree.map(lambda g, m: 0.1 * g + decay * m, updates, state)
        return state, state

    return optax.GradientTransformation(init, update)


@pytest.mark.slow
def test_the_recipe_is_optaxs_masks_where_its_momentum_is_in_bfloat16(x64):
    params, goal = (jax.tree.map(lambda x: x.astype(float), vit(seed, 64)) for seed in (0, 1))
    kept = jopt.average_updates(0.9, debias=False, state_dtype="bfloat16")
    ours = EXAMPLE["recipe"](RATE, HEAD, FROZEN, CAP)
    mine, want = (
        jax.jit(trained, static_argnums=0)(tx, params, goal)
        for tx in (ours, of_optax(params, kept))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), mine, want)
