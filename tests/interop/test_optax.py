"""k steps of optax, then jopt: what the two agree on goes on as if nothing had happened."""

import functools
import pickle
from typing import NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jopt
import jopt.interop.optax
from jopt.interop.optax import export_state, import_state

FIRST, THEN = 5, 6
PLAN = jopt.schedules.linear(0.1, 0.0, 20)  # optax takes jopt's schedules too

DECAYED = jopt.group("^b", weight_decay=0.0)
FAST = jopt.group("^a", learning_rate=0.02)
STILL = jopt.group("^b", freeze=True)

# name: (optax's, jopt's, whether optax keeps no count). These agree to rounding.
SAME = {
    "adam": (lambda: optax.adam(0.01), lambda: jopt.adam(0.01)),
    "adamw": (
        lambda: optax.adamw(PLAN, weight_decay=0.1, mask={"a": True, "b": False}),
        lambda: jopt.adamw(PLAN, weight_decay=0.1, groups={"rest": DECAYED}),
    ),
    "clipped, coupled decay": (
        lambda: optax.chain(optax.clip(0.5), optax.add_decayed_weights(0.1), optax.adam(0.01)),
        lambda: jopt.chain(jopt.clip_by_value(0.5), jopt.adam(0.01, weight_decay=0.1)),
    ),
    "named chain": (
        lambda: optax.named_chain(("clip", optax.clip(0.5)), ("adam", optax.adam(0.01))),
        lambda: jopt.chain(jopt.clip_by_value(0.5), jopt.adam(0.01)),
    ),
    "adamax": (lambda: optax.adamax(0.01), lambda: jopt.adamax(0.01)),
    "nadam, without a warming momentum": (
        lambda: optax.nadam(0.01),
        lambda: jopt.nadam(0.01, momentum_decay=1e9),
    ),
    "sgd": (lambda: optax.sgd(0.01), lambda: jopt.sgd(0.01)),
    "sgd, momentum": (lambda: optax.sgd(0.01, 0.9), lambda: jopt.sgd(0.01, 0.9)),
    "sgd, nesterov": (
        lambda: optax.sgd(PLAN, momentum=0.9, nesterov=True),
        lambda: jopt.sgd(PLAN, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (
        lambda: optax.rmsprop(0.01, decay=0.99, eps_in_sqrt=False),
        lambda: jopt.rmsprop(0.01),
    ),
    "rmsprop, centered, momentum": (
        lambda: optax.rmsprop(0.01, 0.99, eps_in_sqrt=False, centered=True, momentum=0.9),
        lambda: jopt.rmsprop(0.01, momentum=0.9, centered=True),
    ),
    "rmsprop, corrected": (
        lambda: optax.rmsprop(0.01, 0.99, eps_in_sqrt=False, bias_correction=True),
        lambda: jopt.rmsprop(0.01, bias_correction=True),
    ),
    "rmsprop, momentum before the learning rate": (
        lambda: optax.chain(
            optax.scale_by_rms(0.99, eps_in_sqrt=False),
            optax.trace(0.9),
            optax.scale_by_learning_rate(PLAN),
        ),
        lambda: jopt.rmsprop(PLAN, momentum=0.9),
    ),
    "adagrad": (
        lambda: optax.adagrad(0.01, eps=0.0),
        lambda: jopt.adagrad(0.01, initial_accumulator_value=0.1, eps=0.0),
    ),
    "adadelta": (lambda: optax.adadelta(1.0), jopt.adadelta),
    "lion": (lambda: optax.lion(0.01), lambda: jopt.lion(0.01)),
    "signum": (lambda: optax.signum(0.01), lambda: jopt.signum(0.01)),
    "adabelief": (lambda: optax.adabelief(0.01), lambda: jopt.adabelief(0.01)),
    "yogi": (lambda: optax.yogi(0.01), lambda: jopt.yogi(0.01)),
    "adopt": (lambda: optax.contrib.adopt(0.01), lambda: jopt.adopt(0.01)),
    "lamb": (
        lambda: optax.lamb(0.01, weight_decay=0.1),
        lambda: jopt.lamb(0.01, weight_decay=0.1),
    ),
    "lars": (
        lambda: optax.lars(0.01, trust_coefficient=0.5),
        lambda: jopt.lars(0.01, trust_coefficient=0.5),
    ),
    "novograd": (lambda: optax.novograd(0.01), lambda: jopt.novograd(0.01)),
    "optimistic gradient descent": (
        lambda: optax.optimistic_gradient_descent(0.01, beta=2.0),
        lambda: jopt.optimistic_gradient_descent(0.01, beta=2.0),
    ),
    "optimistic adam": (
        lambda: optax.optimistic_adam_v2(0.01),
        lambda: jopt.optimistic_adam(0.01),
    ),
    "ademamix": (lambda: optax.contrib.ademamix(0.01), lambda: jopt.ademamix(0.01)),
    "simplified ademamix": (
        lambda: optax.contrib.simplified_ademamix(0.01),
        lambda: jopt.simplified_ademamix(0.01),
    ),
    "noisy sgd": (
        lambda: optax.noisy_sgd(0.01, 0.0, key=1),
        lambda: jopt.noisy_sgd(0.01, 0.0, seed=1),
    ),
    "fromage": (lambda: optax.fromage(0.01), lambda: jopt.fromage(0.01)),
    "cocob": (optax.contrib.cocob, jopt.cocob),
    "sm3": (lambda: optax.sm3(0.01), lambda: jopt.sm3(0.01)),
    "dadapt adamw": (
        lambda: optax.contrib.dadapt_adamw(estim_lr0=0.01),
        lambda: jopt.dadapt_adamw(estim_lr0=0.01),
    ),
    "prodigy": (
        lambda: optax.contrib.prodigy(estim_lr0=0.01),
        lambda: jopt.prodigy(estim_lr0=0.01),
    ),
    # With bias_correction, and between two estimates: jopt takes one in a step earlier.
    "sophia": (
        lambda: optax.contrib.sophia(0.01, update_interval=20),
        lambda: jopt.sophia(0.01, update_interval=20, bias_correction=True),
    ),
    "dog": (
        lambda: optax.contrib.dog(init_step=("learning_rate", 0.01)),
        lambda: jopt.dog(init_step=("learning_rate", 0.01)),
    ),
    "dowg": (optax.contrib.dowg, jopt.dowg),
    "polyak": (lambda: optax.polyak_sgd(0.01), lambda: jopt.polyak_sgd(0.01)),
    "momo": (
        lambda: optax.contrib.momo(0.01, adapt_lower_bound=True),
        lambda: jopt.momo(0.01, adapt_lower_bound=True),
    ),
    "momo adam": (optax.contrib.momo_adam, jopt.momo_adam),
    "injected": (
        lambda: optax.inject_hyperparams(optax.adamw)(0.02, weight_decay=0.1),
        lambda: jopt.adamw(0.5, weight_decay=0.5),  # the numbers come from optax's state
    ),
    "injected schedule": (
        lambda: optax.inject_hyperparams(optax.adamw)(PLAN, weight_decay=0.1),
        lambda: jopt.adamw(PLAN, weight_decay=0.5),
    ),
    "partition to groups": (
        lambda: optax.partition(
            {"x": optax.adam(0.02), "y": optax.adam(0.01)}, {"a": "x", "b": "y"}
        ),
        lambda: jopt.adam(0.01, groups={"x": FAST}),
    ),
    "partition to routes": (
        lambda: optax.partition(
            {"x": optax.adam(0.02), "y": optax.sgd(0.01, 0.9)}, {"a": "x", "b": "y"}
        ),
        lambda: jopt.route(jopt.adam(0.02), y=("^b", jopt.sgd(0.01, 0.9))),
    ),
    "frozen by partition": (
        lambda: optax.partition(
            {"x": optax.adam(0.01), "y": optax.set_to_zero()}, {"a": "x", "b": "y"}
        ),
        lambda: jopt.adam(0.01, groups={"still": STILL}),
    ),
    "frozen after the fact": (
        lambda: optax.chain(
            optax.adam(0.01), optax.transforms.freeze({"a": False, "b": True})
        ),
        lambda: jopt.adam(0.01, groups={"still": STILL}),
    ),
    "accumulated": (
        lambda: optax.MultiSteps(optax.adam(0.01), 3, accumulator_dtype=float),
        lambda: jopt.accumulate(jopt.adam(0.01), every=3),
    ),
    "accumulated by a schedule": (
        lambda: optax.MultiSteps(optax.adam(0.01), lambda n: 2 + n, accumulator_dtype=float),
        lambda: jopt.accumulate(jopt.adam(0.01), every=lambda n: 2 + n),
    ),
    "schedule free sgd": (
        lambda: optax.contrib.schedule_free(optax.sgd(0.05), 0.05),
        lambda: jopt.schedule_free(jopt.sgd(0.05), 0.05),
    ),
    "schedule free adamw": (
        lambda: optax.contrib.schedule_free_adamw(0.01, weight_decay=0.1),
        lambda: jopt.schedule_free(
            jopt.rmsprop(0.01, 0.999, bias_correction=True, weight_decay=0.1, decoupled=True), 0.01
        ),
    ),
    "skipping": (
        lambda: optax.apply_if_finite(optax.adam(0.01), 4),
        lambda: jopt.skip_nonfinite(jopt.adam(0.01)),
    ),
}  # fmt: skip

# The moments carry over, the rule is another: (optax's, jopt's, next step's relative difference
# at most, and at least: a smaller one would mean that the docs claim a difference that is not).
OTHER = {
    "amsgrad": (lambda: optax.amsgrad(0.01), lambda: jopt.adam(0.01, amsgrad=True), 1e-12, 0),
    "radam": (lambda: optax.radam(0.01), lambda: jopt.radam(0.01), 1e-5, 1e-9),
    "nadam": (lambda: optax.nadam(0.01), lambda: jopt.nadam(0.01), 2, 0.1),
    "rmsprop, eps": (
        lambda: optax.rmsprop(0.01, eps=1e-3),
        lambda: jopt.rmsprop(0.01, decay=0.9, eps=1e-3),
        0.1,
        1e-4,
    ),
    "rmsprop, not corrected": (
        lambda: optax.rmsprop(0.01, eps_in_sqrt=False, bias_correction=True),
        lambda: jopt.rmsprop(0.01, decay=0.9),
        0.6,
        0.1,
    ),
    "adagrad, eps": (
        lambda: optax.adagrad(0.01),
        lambda: jopt.adagrad(0.01, initial_accumulator_value=0.1),
        1e-6,
        1e-10,
    ),
    "adafactor": (
        lambda: optax.adafactor(0.01, min_dim_size_to_factor=1),
        lambda: jopt.adafactor(0.01),
        1e-7,  # optax counts its steps in float32
        0,
    ),
    "adafactor, unfactored": (
        lambda: optax.adafactor(0.01),
        lambda: jopt.adafactor(0.01),
        0.3,
        1e-3,
    ),
    "madgrad": (
        lambda: optax.contrib.madgrad(0.01),
        lambda: jopt.madgrad(0.01),
        1e-6,  # optax has the root of its count in float32
        0,
    ),
    # The next step is by the moment that there is; optax's later ones are larger by 1 / b1².
    "acprop": (lambda: optax.contrib.acprop(0.01), lambda: jopt.acprop(0.01), 1e-12, 0),
    "muon": (
        lambda: optax.contrib.muon(0.01),
        lambda: jopt.recipes.muon_adamw(
            0.01, adamw_learning_rate=0.01, weight_decay=0.0, b2=0.999, eps=1e-8
        ),
        1,
        1e-2,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax mixes dtypes in its own arithmetic.
    with jax.numpy_dtype_promotion("standard"):
        yield


def params_of(dtype=float):
    w = jnp.sin(jnp.arange(12.0)).reshape(3, 4)
    return jax.tree.map(lambda x: x.astype(dtype), {"a": {"w": w}, "b": jnp.cos(jnp.arange(4.0))})


def wanting(tx):
    """The same, and as jopt's are: a transform that takes a loss, or does without."""
    return optax.with_extra_args_support(tx) if hasattr(tx, "_fields") else tx


def quartic(params):
    """A function with a diagonal Hessian, which an estimate by signs finds exactly."""
    return sum(jnp.sum(x**4) for x in jax.tree.leaves(params))


def run(tx, params, state, steps):
    @jax.jit
    def step(params, state, i):
        grads = jax.tree.map(lambda p: jnp.sin(3 * p + i).astype(p.dtype), params)
        extra = {"value": 2 + jnp.cos(i), "obj_fn": quartic}
        updates, state = wanting(tx).update(grads, state, params, **extra)
        return jopt.apply_updates(params, updates), state

    for i in steps:
        params, state = step(params, state, float(i))
    return params, state


def counted(state):
    """The count= that a state needs."""
    return None if jopt.interop.optax.states.read("test", state).counts else FIRST


def distance(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.abs(x - y).max()) for x, y in pairs)


@functools.cache
def moved(name, dtype=float):
    """Both transforms, parameters and optax's state after some steps, and the imported state."""
    theirs, ours = (make() for make in {**SAME, **OTHER}[name][:2])
    params, state = run(theirs, params_of(dtype), theirs.init(params_of(dtype)), range(FIRST))
    return theirs, ours, params, state, import_state(ours, params, state, count=counted(state))


@pytest.mark.parametrize("name", SAME)
@pytest.mark.sampled
def test_jopt_goes_on_where_optax_stood(name, x64):
    theirs, ours, params, state, imported = moved(name)
    steps = range(FIRST, FIRST + THEN)
    wanted, _ = run(theirs, params, state, steps)
    found, _ = run(ours, params, imported, steps)
    assert distance(found, wanted) <= 1e-12
    assert distance(found, params) > 1e-3


@pytest.mark.parametrize("name", ["adamw", "rmsprop, centered, momentum", "accumulated"])
def test_in_float32(name):
    theirs, ours, params, state, imported = moved(name, dtype=jnp.float32)
    steps = range(FIRST, FIRST + THEN)
    found = run(ours, params, imported, steps)[0]
    assert distance(found, run(theirs, params, state, steps)[0]) <= 3e-6


@pytest.mark.parametrize("name", SAME)
@pytest.mark.sampled
def test_and_optax_where_jopt_stood(name, x64):
    theirs, ours, params, state, imported = moved(name)
    params, own = run(ours, params, imported, range(FIRST, FIRST + 2))
    back = export_state(ours, params, own, theirs.init(params))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert [x.dtype for x in jax.tree.leaves(back)] == [x.dtype for x in jax.tree.leaves(state)]
    steps = range(FIRST + 2, FIRST + 4)
    assert distance(run(theirs, params, back, steps)[0], run(ours, params, own, steps)[0]) <= 1e-12


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.sampled
def test_how_far_the_next_step_is_where_the_rule_is_another(name, x64):
    theirs, ours, params, state, imported = moved(name)
    *_, most, least = OTHER[name]
    wanted, _ = run(theirs, params, state, [FIRST])
    apart = distance(run(ours, params, imported, [FIRST])[0], wanted) / distance(wanted, params)
    assert least <= apart <= most


FORMS = {
    "flax": flax.serialization.to_state_dict,
    "flax bytes": lambda s: flax.serialization.msgpack_restore(flax.serialization.to_bytes(s)),
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),
    "jopt": jopt.state_dict,
    "jopt bytes": lambda s: jopt.from_bytes(None, jopt.to_bytes(s)),
    # What orbax gives without a target: lists, and None where nothing was.
    "lists and None": lambda s: listed(s),
}


def listed(node):
    if hasattr(node, "_fields"):
        fields = {name: listed(kid) for name, kid in node._asdict().items()}
        return fields or None
    if isinstance(node, tuple):
        return [listed(kid) for kid in node] or None
    if isinstance(node, dict):
        return {key: listed(kid) for key, kid in node.items()} or None
    return np.asarray(node)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["adamw", "injected schedule", "partition to routes", "accumulated", "skipping"]
)
def test_a_state_without_its_types_is_the_same(name, form):
    _, ours, params, state, imported = moved(name, dtype=jnp.float32)
    found = import_state(ours, params, FORMS[form](state))
    assert jax.tree.structure(found) == jax.tree.structure(imported)
    assert all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(imported)))


@pytest.mark.parametrize("kind", ["list", "array", "nnx"])
def test_parameters_in_other_containers(kind):
    w = jnp.ones((3, 2))
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    params = {"list": [w, (w[0], {"b": w})], "array": w, "nnx": nnx.state(model, nnx.Param)}[kind]
    theirs, ours = optax.adam(1e-3), jopt.adam(1e-3)
    _, state = theirs.update(params, theirs.init(params), params)
    imported = import_state(ours, params, state)
    assert jax.tree.structure(imported) == jax.tree.structure(ours.init(params))
    back = export_state(ours, params, imported, theirs.init(params))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert all(map(np.array_equal, jax.tree.leaves(back), jax.tree.leaves(state)))


def test_counts_and_numbers_are_those_in_force():
    _, _, _, state, imported = moved("injected schedule", dtype=jnp.float32)
    own = jopt.hyperparams(imported)["adamw"]["default"]
    assert int(imported["adamw"]["count"]) == FIRST
    for name, value in own.items():
        # optax has the rate of the last step there, jopt that of the step to come.
        now = PLAN(FIRST) if name == "learning_rate" else state.hyperparams[name]
        assert abs(float(value) - float(now)) <= 1e-7, name


def test_bfloat16_moments_widen_and_nothing_is_shared():
    params = params_of(jnp.bfloat16)
    _, state = run(optax.adam(0.01), params, optax.adam(0.01).init(params), range(2))
    imported = import_state(jopt.adam(0.01), params, state)
    assert imported["adam"]["nu"]["b"].dtype == jnp.float32
    jax.tree.map(lambda x: x.delete(), state)
    assert np.isfinite(np.asarray(imported["adam"]["nu"]["b"])).all()


def test_a_skipped_step_is_counted():
    theirs, ours = optax.apply_if_finite(optax.adam(0.1), 9), jopt.skip_nonfinite(jopt.adam(0.1))
    params = params_of(jnp.float32)
    bad = jax.tree.map(lambda p: p * jnp.nan, params)
    _, state = theirs.update(bad, theirs.init(params), params)
    node = import_state(ours, params, state)["skip_nonfinite"]
    assert (int(node["total"]), int(node["in_a_row"])) == (1, 1)
    assert int(node["inner"]["adam"]["count"]) == 0
    back = export_state(ours, params, {"skip_nonfinite": node}, theirs.init(params))
    assert not back.last_finite


def fails(match, tx, state, **kwargs):
    with pytest.raises(jopt.StateError) as caught:
        import_state(tx, params_of(jnp.float32), state, **kwargs)
    assert match in str(caught.value), str(caught.value)


def init(tx):
    return tx.init(params_of(jnp.float32))


class NobodysState(NamedTuple):
    count: jax.Array
    guess: dict


def test_a_state_that_is_not_understood_is_shown():
    nobodys = NobodysState(jnp.int32(0), params_of(jnp.float32))
    state = (optax.EmptyState(), nobodys, optax.EmptyState())
    fails(
        "import_state: this optax state is not understood; it holds\n"
        "  0: EmptyState\n"
        "  1: NobodysState(count, guess)\n"
        "  2: EmptyState\n"
        "  at:       1\n"
        "  expected: EmptyState, ScaleByScheduleState, WrappedScheduleState, ScaleByAdamState, ",
        jopt.adam(),
        state,
    )
    fails("at:       1/count\n", jopt.adam(), flax.serialization.to_state_dict(state))
    fails("at:       1/count\n", jopt.muon(), flax.serialization.to_state_dict(state))
    fails("(all of it): int32 ()\n", jopt.adam(), jnp.int32(3))


def test_a_state_of_another_optimizer_is_told_leaf_by_leaf():
    fails(
        "import_state: the optax state is not one of this transform\n"
        "  sgd/momentum_buffer/a/w: expected in TraceState\n"
        "  sgd/momentum_buffer/b: expected in TraceState\n"
        "  0/mu/a/w: nothing here takes it\n"
        "  0/mu/b: nothing here takes it\n"
        "  0/nu/a/w: nothing here takes it\n"
        "  0/nu/b: nothing here takes it\n"
        "  It holds\n"
        "  0: ScaleByAdamState(count, mu, nu)\n"
        "  1: EmptyState",
        jopt.sgd(0.1, momentum=0.9),
        init(optax.adam(0.1)),
    )
    adam = init(optax.adam(1))
    fails("adam/nu_max/b: expected in ScaleByAmsgradState", jopt.adam(amsgrad=True), adam)
    fails("0/nu_max/b: nothing here takes it", jopt.adam(), init(optax.amsgrad(1)))
    masked = init(optax.masked(optax.adam(1), {"a": True, "b": False}))
    fails("adam/mu/b: expected in", jopt.adam(), masked)
    fails("0/trace/b: nothing", jopt.sgd(0.1), init(optax.sgd(0.1, momentum=0.9)))
    fails("expected in MultiStepsState", jopt.accumulate(jopt.adam(), 2), init(optax.adam(1)))


def test_a_moment_of_another_shape_or_a_wider_dtype_is_refused():
    state = init(optax.adam(0.1))
    short = state[0]._replace(mu={**state[0].mu, "b": jnp.zeros(3)})
    fails("at:       adam/mu/b\n  expected: (4,)\n  found:    (3,)", jopt.adam(), (short, state[1]))
    wide = state[0]._replace(mu={**state[0].mu, "b": np.zeros(4)})
    fails("would lose bits\n  at:       adam/mu/b", jopt.adam(), FORMS["jopt"]((wide, state[1])))


def test_the_count_is_asked_for_where_optax_has_none_and_held_to_where_it_has():
    fails("Say how many steps have been taken", jopt.sgd(0.1, 0.9), init(optax.sgd(0.1, 0.9)))
    fails("expected: 3, as count= says", jopt.adam(), init(optax.adam(0.1)), count=3)
    state = init(optax.adamw(optax.constant_schedule(0.1)))
    odd = (*state[:2], state[2]._replace(count=jnp.int32(7)))
    fails("do not agree\n  0/count: 0\n  2/count: 7", jopt.adamw(), odd)
    imported = import_state(jopt.adamw(), params_of(jnp.float32), odd, count=7)
    assert int(imported["adamw"]["count"]) == 7


def test_numbers_that_jopt_does_not_have_are_refused_unless_they_do_nothing():
    state = init(optax.inject_hyperparams(optax.adam)(0.1, eps_root=1e-3))
    fails("optax keeps a number eps_root that jopt.adam() does not have", jopt.adam(), state)
    two = jopt.route(jopt.adam(), y=("^b", jopt.adamw()))
    state = init(optax.inject_hyperparams(optax.adam)(0.1))
    fails("several transforms have the number", two, state)


def test_a_longer_round_ends_at_the_next_gradient_with_its_mean():
    _, _, params, state, _ = moved("accumulated", dtype=jnp.float32)
    tx = jopt.accumulate(jopt.adam(0.01), 1)
    ours = import_state(tx, params, state)
    n = int(ours["accumulate"]["micro"])
    assert n == state.mini_step > 0
    _, after = tx.update(jax.tree.map(jnp.zeros_like, params), ours, params)
    inner = after["accumulate"]["inner"]["adam"]
    for mean, before, mu in zip(
        *map(jax.tree.leaves, (state.acc_grads, ours["accumulate"]["inner"]["adam"]["mu"])),
        jax.tree.leaves(inner["mu"]),
        strict=True,
    ):
        np.testing.assert_allclose(mu, 0.9 * before + 0.1 * mean * n / (n + 1), rtol=1e-5)


def test_learning_rates_and_complex_parameters_that_do_not_fit():
    state = init(optax.rmsprop(0.1, momentum=0.9))
    fails("the learning rate in it, which is 0", jopt.rmsprop(0.0, momentum=0.9), state, count=1)
    z = {"z": jnp.ones(2, jnp.complex64)}
    state = optax.adam(0.1).init(z)
    with pytest.raises(jopt.StateError, match="optax squares a complex gradient whole"):
        import_state(jopt.adam(), z, state)


def test_what_optax_cannot_hold_is_not_exported():
    params = params_of(jnp.float32)
    tx = jopt.adafactor()
    with pytest.raises(jopt.StateError, match="jopt keeps factored moments"):
        export_state(tx, params, tx.init(params), optax.adafactor(0.1).init(params))
    tx = jopt.adam(skips="^b$")
    _, state = tx.update({**params, "b": None}, tx.init(params), params)
    with pytest.raises(jopt.StateError, match="optax has one age for all leaves"):
        export_state(tx, params, state, optax.adam(0.1).init(params))
    with pytest.raises(jopt.StateError, match="mu/a/w: nothing here takes it"):
        export_state(jopt.sgd(1.0), params, jopt.sgd(1.0).init(params), init(optax.adam(0.1)))


def test_factored_axes_that_jopt_does_not_factor():
    params = {"w": jnp.ones((5, 4, 2))}
    state = optax.adafactor(0.1, min_dim_size_to_factor=1).init(params)
    with pytest.raises(jopt.StateError, match="jopt the last two\n  at:       w"):
        import_state(jopt.adafactor(), params, state)
    tall = {"w": jnp.ones((5, 3))}  # here the longest axis is not the last
    state = optax.adafactor(0.1, min_dim_size_to_factor=1).init(tall)
    assert import_state(jopt.adafactor(), tall, state)["adafactor"]["nu_row"]["w"].shape == (5, 1)
