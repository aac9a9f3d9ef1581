"""One kernel for a step of 8-bit slots: what XLA's two passes compute, for every rule."""

from __future__ import annotations

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.checkpoint.config import configuration
from jopt.core import codecs, curvature, doors
from jopt.core.kernels import keeping_nan
from jopt.core.row import stepped
from jopt.core.spec import REGISTRY
from tests.catalog import BY_NAME, CATALOG
from tests.core.helpers import error, same
from tests.core.two_programs import agree, holds_what_was_computed, in_codes, whole
from tests.laws.harness import extras

FUSED = [e for e in CATALOG if REGISTRY[e.name].elementwise]
each = pytest.mark.parametrize("entry", FUSED, ids=lambda e: e.name)

# Blocks in rows of their own, an odd number of them over several axes, and narrow parameters;
# then leaves that the kernel leaves to XLA: a last block that is short, and too few entries.
WHOLE = {"conv": ((17, 4, 64, 4), "float32"), "half": ((8, 512), "bfloat16")}
OTHER = {"ragged": ((8, 700), "float32"), "small": ((3, 4), "float32")}
# Those with an array that stays whole, such as asgd's average, are left to XLA too.
SLOTS = {e.name: [s for s in REGISTRY[e.name].slots if s.shape != "scalar"] for e in FUSED}
HAVE_CODES = {name for name, slots in SLOTS.items() if slots and all(s.compress for s in slots)}
# How many units in the last place the two programs may be apart: a square is twice as far off as
# what is squared, and that is a difference of two that may each have one rounding or two. What is
# left of such a difference, Sophia divides by a curvature that is smaller still.
ULPS = {"adabelief": 4, "sophia": 32}


def tree(seed=0):
    rng = np.random.default_rng(seed)
    leaves = {**WHOLE, **OTHER}
    return {k: jnp.asarray(rng.normal(size=s), dtype) for k, (s, dtype) in leaves.items()}


@pytest.fixture
def kernels(monkeypatch):
    """Kernels run, interpreted, on this device; the list of how often."""
    ran = []

    def interpreted(kernel, elsewhere):
        ran.append(kernel)
        return functools.partial(kernel, interpret=True)

    monkeypatch.setattr(doors, "on_cuda", interpreted)
    return ran


def expected(entry):
    return len(WHOLE) if entry.name in HAVE_CODES else 0


def step_of(tx):
    return jax.jit(lambda g, s, p: jopt.step(tx, g, s, p, **extras(tx, p, g)))


def run(tx, params, state, seeds):
    step = step_of(tx)
    for seed in seeds:
        params, state = step(tree(seed + 1), state, params)
    return params, state


@contextlib.contextmanager
def compiled_sooner():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def encoded(monkeypatch):
    """What a step is about to store in codes: `{(slot, shape): (values, codes of any such)}`.

    Each operation of it rounds by itself, as nothing is compiled.
    """
    encode, scales = codecs._to_int8, codecs._scales

    def no_scales(x, *rest):
        found = jax.eval_shape(lambda x: scales(x, *rest), x)
        return jnp.zeros(found.shape, found.dtype)

    def of(tx, grads, state, params):
        seen = {}
        (part,) = tx.parts.values()
        slots = part.spec.slots
        names = {codecs.seed_of(slot): slot.name for slot in slots}

        def spied(x, scale, *rest):
            seen[names[rest[-1]], x.shape] = x, lambda v, scale: encode(v, scale, *rest)
            return jnp.zeros(x.shape, "uint8")  # nobody looks

        # One operation is the same, however its program is compiled.
        with monkeypatch.context() as m, jax.disable_jit(), compiled_sooner():
            m.setattr(codecs, "_to_int8", spied)
            m.setattr(codecs, "_scales", no_scales)
            # A loop is traced even so, and what is traced has no values.
            m.setattr(curvature, "once_if", lambda due, f, x: f(x) if due else x)
            jopt.step(tx, grads, state, params, **extras(tx, params, grads))
        return seen

    return of


@pytest.mark.optimized  # bits of two programs are compared
@each
def test_the_same_step(entry, kernels, encoded):
    xla, fused = (entry.make(state_dtype="int8", kernel=k) for k in ("xla", "pallas"))
    theirs, ours = step_of(xla), step_of(fused)
    params, state = tree(), xla.init(tree())
    for seed in range(2):  # from the same state each, or a code on the other side would tell later
        grads, start = tree(seed + 1), (params, state)
        ends = [step(grads, state, params) for step in (ours, theirs)]
        agree(*map(whole, (*ends, start)), ULPS.get(entry.name, 2))
        params, state = ends[1]
    before = encoded(xla, grads, *reversed(start))
    for end in ends:
        found = in_codes(end[1])
        assert found.keys() == before.keys()
        for at, stored in found.items():
            holds_what_was_computed(stored, *before[at])
    assert len(kernels) == expected(entry)


@each
def test_it_lowers_for_cuda_devices(entry):
    tx, params = entry.make(state_dtype="int8", kernel="pallas"), tree()
    text = (
        step_of(tx)
        .trace(params, tx.init(params), params)
        .lower(lowering_platforms=("cuda",))
        .as_text()
    )
    assert text.count('name = "jopt_int8_step"') == expected(entry)


@pytest.mark.optimized  # bits of two programs are compared
def test_update_gives_the_update(kernels):
    xla, fused = (jopt.adamw(0.1, state_dtype="int8", kernel=k) for k in ("xla", "pallas"))
    state = run(xla, tree(), xla.init(tree()), range(1))[1]
    want = jax.jit(xla.update)(tree(1), state, tree())
    got = jax.jit(fused.update)(tree(1), state, tree())
    same(got, want)
    assert got[0]["half"].dtype == jnp.float32
    assert len(kernels) == len(WHOLE)


def test_another_sum_is_added_outside(kernels):
    tx = jopt.adamw(0.1, state_dtype="int8", kernel="pallas")
    flow = tx.flow(tree(1), tx.init(tree()), tree(), {})
    leaves, state = stepped(tx.parts, flow, tx.init(tree()), lambda name, p, u: (name, u))
    updates, new = tx.update(tree(1), tx.init(tree()), tree())
    same(dict(leaves), updates)
    same(state, new)


def test_a_leaf_without_gradient_stays(kernels):
    tx = jopt.adamw(0.1, state_dtype="int8", kernel="pallas", skips="^conv$")
    params, state = tree(), tx.init(tree())
    after, new = jopt.step(tx, {**tree(1), "conv": None}, state, params)
    same(after["conv"], params["conv"])
    same(new["adamw"]["mu"]["conv"], state["adamw"]["mu"]["conv"])
    assert (after["half"] != params["half"]).any()


@pytest.mark.optimized  # bits of two programs are compared
def test_a_run_changes_its_kernel_where_it_was_saved(kernels):
    xla, fused = (jopt.adamw(0.1, state_dtype="int8", kernel=k) for k in ("xla", "pallas"))
    assert configuration(xla) == configuration(fused)
    params, state = run(fused, tree(), fused.init(tree()), range(1))
    loaded = jopt.from_bytes(xla.init(params), jopt.to_bytes(state, tx=fused), tx=xla)
    want = run(fused, tree(), fused.init(tree()), range(2))
    same(run(xla, params, loaded, range(1, 2)), want)


def test_elsewhere_it_is_xla_that_runs_and_derivatives_go_through():
    xla, fused = (jopt.adamw(0.1, state_dtype="int8", kernel=k) for k in ("xla", "pallas"))
    params, state = tree(), xla.init(tree())
    same(run(fused, params, state, range(1)), run(xla, params, state, range(1)))

    def moved(tx, rate):
        new = jopt.set_hyperparams(state, learning_rate=rate)
        return sum(
            x.astype(jnp.float32).sum() for x in jopt.step(tx, tree(1), new, params)[0].values()
        )

    slopes = [jax.grad(functools.partial(moved, tx))(0.1) for tx in (fused, xla)]
    np.testing.assert_allclose(*slopes, rtol=1e-6)
    assert slopes[0] != 0


def test_maxima_keep_nan_where_triton_would_drop_it():
    a = jnp.array([1.0, jnp.nan, 1.0, jnp.nan])
    b = jnp.array([2.0, 2.0, jnp.nan, jnp.nan])

    def f(x):
        return {"max": jnp.maximum(x["a"], x["b"]), "min": jax.jit(jnp.minimum)(x["a"], x["b"])}

    got = keeping_nan(f)({"a": a, "b": b})
    same(got, f({"a": a, "b": b}))
    # Each stands behind two questions whether an operand differs from itself.
    names = [e.primitive.name for e in jax.make_jaxpr(keeping_nan(f))({"a": a, "b": b}).eqns]
    assert names.count("ne") == 4


def test_a_gradient_that_is_nan_is_seen_in_the_state(kernels):
    tx = BY_NAME["adamw"].make(state_dtype="int8", kernel="pallas")
    grads = tree(1)
    grads["conv"] = grads["conv"].at[0, 0, 0, 0].set(jnp.nan)
    params, state = jopt.step(tx, grads, tx.init(tree()), tree())
    assert np.isnan(params["conv"]).sum() == 1
    assert np.signbit(state["adamw"]["nu_max"]["conv"]["scale"]).sum() == 1


@pytest.mark.optimized  # bits of two programs are compared
@pytest.mark.parametrize("name", ["adamw", "rprop"])
def test_the_same_steps_after_gradients_that_are_no_numbers_or_out_of_range(name, kernels):
    ends = []
    for kernel in ("xla", "pallas"):
        tx = BY_NAME[name].make(state_dtype="int8", kernel=kernel)
        grads = tree(1)
        bad = jnp.asarray([jnp.nan, jnp.inf, -jnp.inf, 3e20, 1e38, -3e38, 1e-45, 3.4e38])
        grads["conv"] = grads["conv"].at[:8, 0, 0, 0].set(bad)
        step = jax.jit(lambda g, s, p, tx=tx: jopt.step(tx, g, s, p))
        params, state = step(grads, tx.init(tree()), tree())
        ends.append(step(tree(2), state, params))
    assert len(kernels) == len(WHOLE)
    for side in zip(*(jax.tree.leaves(end) for end in ends), strict=True):
        x, y = (
            np.asarray(leaf, np.float32 if leaf.dtype == jnp.bfloat16 else None) for leaf in side
        )
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        agree(jnp.asarray(np.nan_to_num(x)), jnp.asarray(np.nan_to_num(y)))


def test_there_are_two_kernels():
    with error(
        jopt.ConfigError,
        """adamw: there is no such kernel
        expected: kernel='xla' or 'pallas'
        found:    'triton'""",
    ):
        jopt.adamw(1e-3, state_dtype="int8", kernel="triton")


@pytest.mark.parametrize("kind", [None, "bfloat16"])
def test_it_is_for_slots_in_8_bits(kind):
    with error(
        jopt.ConfigError,
        f"""adamw: kernel='pallas' is for slots in 8 bits
        expected: state_dtype='int8'
        found:    state_dtype={kind!r}
        Drop kernel=: XLA makes one pass over slots of other dtypes.""",
    ):
        jopt.adamw(1e-3, state_dtype=kind, kernel="pallas")


@pytest.mark.parametrize("factory", [jopt.adafactor, jopt.muon, jopt.sparse_adam])
def test_it_is_for_rules_that_see_one_entry_at_a_time(factory):
    with error(
        jopt.ConfigError,
        f"""{factory.__name__}: kernel='pallas' cannot run this rule, which sees other entries too
        expected: kernel='xla'
        found:    'pallas'""",
    ):
        factory(1e-3, state_dtype="int8", kernel="pallas")
