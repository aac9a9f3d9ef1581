"""Clipping against torch's `clip_grad_norm_` and `clip_grad_value_`, whole and by group."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import jopt
from tests.oracles.torch_live import Side, gap

GROUPS = (("bias$", {"lr": 0.02}), ("^head/kernel", {"weight_decay": 0.1}))
BY_PATTERN = {
    "biases": jopt.group("bias$", max_norm=0.5),
    "kernel": jopt.group("^head/kernel"),
}
SGD = {"lr": 0.1, "momentum": 0.9}


def norm(members):
    if members:
        clip_grad_norm_(members, 1.5)


def value(members):
    clip_grad_value_(members, 0.3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("before", "clip"),
    [(jopt.clip_by_global_norm(1.5), norm), (jopt.clip_by_value(0.3), value)],
    ids=["norm", "value"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_follows_torch(before, clip, dtype):
    tolerance = 1e-12 if dtype == np.float64 else 3e-6
    found = gap("SGD", SGD, dtype=dtype, side=Side(clip=clip), before=before)
    assert found <= tolerance


@pytest.mark.usefixtures("x64")
def test_each_group_by_its_own_norm_as_torch_called_for_each_group():
    own = dict.fromkeys(("default", "kernel"), 1.5) | {"biases": 0.5}
    names = iter(())

    def clip(members):
        # torch_run hands over the default group, then the groups in their order.
        nonlocal names
        name = next(names, None)
        if name is None:
            names = iter(("biases", "kernel"))
            name = "default"
        clip_grad_norm_(members, own[name])

    before = jopt.clip_by_global_norm(1.5, groups=BY_PATTERN)
    side = Side(groups=GROUPS, clip=clip)
    assert gap("SGD", SGD, dtype=np.float64, side=side, before=before) <= 1e-12


@pytest.mark.usefixtures("x64")
def test_missing_gradients_do_not_count():
    present = np.ones((10, 6), bool)
    present[::2, 5] = present[::3, 2] = False
    side = Side(clip=norm, present=present)
    before = jopt.clip_by_global_norm(1.5)
    assert gap("SGD", SGD, dtype=np.float64, steps=10, side=side, before=before) <= 1e-12


def update(tx, grads):
    return tx.update(grads, tx.init(grads))[0]


def test_short_gradients_pass_untouched():
    grads = {"a": jnp.array([3e-3, -4e-3]), "b": jnp.array(1e-3)}
    for tx in (jopt.clip_by_global_norm(1.0), jopt.clip_by_norm(1.0), jopt.clip_by_value(1.0)):
        after = update(tx, grads)
        assert all(np.array_equal(after[k], grads[k]) for k in grads)


def test_each_leaf_by_its_own_norm():
    after = update(jopt.clip_by_norm(1.0), {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.3])})
    np.testing.assert_allclose(after["a"], np.array([3.0, 4.0]) / (5 + 1e-6), rtol=1e-6)
    np.testing.assert_array_equal(after["b"], np.float32([0.3]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_norms_of_half_precision_gradients_do_not_overflow(dtype):
    grads = {"w": jnp.full(1000, 300.0, dtype)}  # the sum of squares is beyond float16
    after = update(jopt.clip_by_global_norm(1.0), grads)["w"]
    assert after.dtype == dtype
    np.testing.assert_allclose(np.asarray(after, np.float64), 1 / np.sqrt(1000), rtol=5e-3)


def test_complex_entries_count_by_their_modulus():
    grads = {"w": jnp.array([3.0 + 4.0j], jnp.complex64)}
    after = update(jopt.clip_by_global_norm(1.0), grads)["w"]
    np.testing.assert_allclose(after, np.array([3 + 4j]) / (5 + 1e-6), rtol=1e-6)
    after = update(jopt.clip_by_value(3.5), grads)["w"]
    np.testing.assert_array_equal(after, np.complex64([3 + 3.5j]))


def test_a_norm_that_is_not_finite_shows():
    after = update(jopt.clip_by_global_norm(1.0), {"a": jnp.array([jnp.nan]), "b": jnp.ones(2)})
    assert jnp.isnan(after["a"]).all()
    assert jnp.isnan(after["b"]).all()


def test_frozen_leaves_pass_and_do_not_count():
    tx = jopt.clip_by_global_norm(1.0, groups={"frozen": jopt.group("^big$", freeze=True)})
    grads = {"big": jnp.full(3, 1e6), "small": jnp.array([0.3, 0.4])}
    after = update(tx, grads)
    np.testing.assert_array_equal(after["big"], grads["big"])
    np.testing.assert_array_equal(after["small"], grads["small"])


def test_the_limit_is_data():
    tx = jopt.clip_by_value(1.0)
    grads = {"w": jnp.array([5.0, -5.0])}
    state = jopt.set_hyperparams(tx.init(grads), max_value=2.0)
    np.testing.assert_array_equal(tx.update(grads, state)[0]["w"], np.float32([2, -2]))


def test_a_limit_may_follow_a_schedule():
    tx = jopt.clip_by_value(jopt.schedules.linear(1.0, 3.0, 2))
    grads = {"w": jnp.array([5.0])}
    state, seen = tx.init(grads), []
    update = jax.jit(tx.update)
    for _ in range(3):
        after, state = update(grads, state)
        seen.append(float(after["w"][0]))
    assert seen == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("factory", [jopt.clip_by_value, jopt.clip_by_norm])
def test_a_negative_limit_is_refused(factory):
    with pytest.raises(jopt.ConfigError, match=r"max_(value|norm) is out of range"):
        factory(-1.0)


SIZES = [3e38, 1e30, 3e19, 1.0, 1e-12, 1e-20, 1e-30, 1e-37, 1e-40, 1e-45]
CLIPS = {"global": jopt.clip_by_global_norm(1.0), "leaf": jopt.clip_by_norm(1.0)}


def clipped(tx, grads, most):
    return tx.update(grads, jopt.set_hyperparams(tx.init(grads), max_norm=most))[0]


def in_float64(grads, most, whole):
    """The formula, with the largest entry taken out of the norm first."""

    def norm(xs):
        top = max(np.max(np.abs(x)) for x in xs) or 1.0
        return top * np.sqrt(sum(np.sum(np.abs(x / top) ** 2) for x in xs))

    of = {k: norm([*grads.values()] if whole else [x]) for k, x in grads.items()}
    return {k: x / (of[k] + 1e-6) * most if of[k] + 1e-6 > most else x for k, x in grads.items()}


KINDS = [("global", d) for d in ("float32", "float64", "bfloat16", "float16", "complex64")]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kind", "dtype"), [*KINDS, ("leaf", "float32"), ("leaf", "complex64")])
def test_gradients_of_any_size_keep_their_direction_and_get_the_norm(kind, dtype):
    run = jax.jit(lambda grads, most: clipped(CLIPS[kind], grads, most))
    rng = np.random.default_rng(0)
    real = jnp.finfo(dtype)
    sizes = [s for s in SIZES if s < float(real.max)] + [1e300, 1e-300] * (real.bits == 64)
    for size, most in itertools.product(sizes, (1.0, 1e-3, 1e25, 1e-15)):
        shapes = {"a": (5, 3), "b": (4,), "c": ()}
        drawn = {k: rng.uniform(0.3, 1, n) * rng.choice([-1, 1], n) for k, n in shapes.items()}
        # By numpy: jax on a CPU takes what is below the normal numbers for 0.
        grads = {k: np.asarray(size * d).astype(dtype) for k, d in drawn.items()}
        wide = {
            k: g.astype(np.complex128 if g.dtype.kind == "c" else float) for k, g in grads.items()
        }
        want = in_float64(wide, most, kind == "global")
        largest = max(np.max(np.abs(x)) for x in want.values())
        untouched = all(np.array_equal(want[k], wide[k]) for k in want)
        if largest < float(real.tiny) * 1e4 and not untouched:
            continue  # clipped to what a CPU takes for 0
        got = run(grads, most)
        for k, x in want.items():
            found = np.asarray(got[k]).astype(x.dtype)
            if untouched:
                np.testing.assert_array_equal(found, x)
            else:
                off = np.abs(found / largest - x / largest)
                assert np.max(off) <= 4 * float(real.eps), (size, most)


@pytest.mark.parametrize("kind", CLIPS)
def test_what_is_not_finite_shows_as_ever(kind):
    grads = {"a": jnp.array([jnp.inf, 1.0]), "b": jnp.array([3e30, 4e30])}
    after = clipped(CLIPS[kind], grads, 1.0)
    np.testing.assert_array_equal(after["a"], np.float32([np.nan, 0]))
    want = [0, 0] if kind == "global" else [0.6, 0.8]
    np.testing.assert_allclose(after["b"], np.float32(want), rtol=1e-6)


@pytest.mark.parametrize("kind", CLIPS)
def test_the_second_look_differentiates_and_maps(kind):
    def total(x):
        out = clipped(CLIPS[kind], {"a": x, "b": x * 2}, 1.0)
        return jnp.sum(out["a"] * jnp.arange(3.0)) + jnp.sum(out["b"])

    x = jnp.array([[1.0, -2.0, 3.0], [1e25, -2e25, 3e25], [1e-3, 1e-3, 2e-3]])
    mapped = jax.jit(jax.vmap(jax.value_and_grad(total)))(x)
    alone = [jax.jit(jax.value_and_grad(total))(row) for row in x]
    for i, found in enumerate(alone):
        for a, b in zip(mapped, found, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-7)
    # The clipped gradient is that of x / ‖x‖: the same along a ray, its derivative in proportion.
    np.testing.assert_allclose(alone[0][0], alone[1][0], rtol=1e-5)
    np.testing.assert_allclose(alone[0][1] / 1e25, alone[1][1], rtol=1e-4, atol=1e-31)
