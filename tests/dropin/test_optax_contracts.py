"""What optax expects of any transform beside `init` and `update`, asked of jopt's."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.core.spec import REGISTRY
from jopt.interop.optax import wrap
from tests.catalog import CATALOG
from tests.dropin.common import assert_identical

DENSE = [entry for entry in CATALOG if entry.factory is not jopt.sparse_adam]
EACH = pytest.mark.parametrize("entry", DENSE, ids=lambda e: e.name)


def params_of():
    return {"kernel": jnp.cos(jnp.arange(12.0)).reshape(3, 4), "head": jnp.ones((4, 2))}


def step_of(entry):
    """The compiled update of an optimizer, at the first step."""
    given = {
        "value_fn": lambda p: sum(jnp.sum(x**2) for x in jax.tree.leaves(p)),
        "value": jnp.float32(2.0),
    }
    extra = {name: given[name] for part in entry.make().parts.values() for name in part.extra}
    return lambda tx: jax.jit(
        lambda g, s, p, **more: tx.update(g, s, p, **extra, **more),
    )


@EACH
def test_map_params_maps_the_slots_and_nothing_else(entry):
    tx, params = entry.make(), params_of()
    state = tx.init(params)
    marked = optax.tree.map_params(
        tx, lambda x, name: name, state, {"kernel": "K", "head": "H"}, transform_non_params=type
    )
    spec = next(iter(tx.parts.values())).spec
    for slot in spec.active_slots(next(iter(tx.parts.values())).options):
        like = slot.scope == "leaf" and slot.fits is None
        found = marked[tx.name][slot.name]
        if like:
            assert found == {"kernel": "K", "head": "H"}
        else:
            assert "K" not in jax.tree.leaves(found)
    assert_identical(optax.tree.map_params(tx, lambda x: x, state), state)


GROUPS = {"head": jopt.group("^head$", learning_rate=0.5), "a": jopt.group("^kernel", freeze=True)}
NESTED = {
    "chain": lambda: jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adam(0.1)),
    "groups": lambda: jopt.adamw(0.1, groups={"head": GROUPS["head"]}),
    "accumulate": lambda: jopt.accumulate(jopt.ema(jopt.sgd(0.1, momentum=0.9)), every=2),
    "skip": lambda: jopt.skip_nonfinite(jopt.adamw(jopt.schedules.cosine(1.0, 10))),
    "master": lambda: jopt.master_weights(jopt.sgd(0.1)),
    "foreign": lambda: jopt.chain(optax.scale_by_adam(), jopt.sgd(0.1)),
}


@pytest.mark.parametrize("label", NESTED)
def test_map_params_looks_into_wrappers(label):
    tx = NESTED[label]()
    params = jax.tree.map(lambda p: p.astype("bfloat16"), params_of())
    state = tx.init(params)
    doubled = optax.tree.map_params(tx, lambda x, p: x + p, state, params)
    for path, x in jax.tree.leaves_with_path(doubled):
        before = state
        for key in path:
            before = before[key.key]
        own = params.get(path[-1].key)
        assert_identical(x, before if own is None else before + own)


def test_map_params_of_routed_and_partly_frozen_leaves():
    routed = jopt.route(jopt.adamw(0.1), matrices=("^kernel$", jopt.muon(0.1)))
    frozen = jopt.adamw(0.1, groups={"still": GROUPS["a"]})
    stored = jopt.adamw(0.1, state_dtype="int8")
    for tx in (routed, frozen, stored):
        state = tx.init(params_of())
        assert_identical(optax.tree.map_params(tx, lambda x: x, state), state)
    half = optax.tree.map_params(frozen, lambda x: x + 1, frozen.init(params_of()))
    assert_identical(half["adamw"]["mu"], {"head": jnp.ones((4, 2))})


def test_map_params_through_optaxs_own_wrappers():
    tx = optax.MultiSteps(optax.chain(optax.clip(1.0), jopt.adam(0.1)), 2)
    state = tx.init(params_of())
    specs = optax.tree.map_params(tx, lambda _: "spec", state, transform_non_params=lambda _: 0)
    assert specs.inner_opt_state[1]["adam"]["mu"] == {"kernel": "spec", "head": "spec"}
    assert specs.inner_opt_state[1]["adam"]["count"] == 0


@EACH
def test_extra_arguments_that_nobody_wants_are_ignored(entry):
    tx, params = entry.make(), params_of()
    state, update = tx.init(params), step_of(entry)(tx)
    plain = update(params, state, params)
    assert_identical(update(params, state, params, loss=1.0, whatever=jnp.ones(3)), plain)


def test_an_extra_argument_that_is_needed_is_still_asked_for():
    tx = jopt.lbfgs()
    state = tx.init(params_of())
    with pytest.raises(jopt.ConfigError, match="lbfgs: update needs value_fn="):
        tx.update(params_of(), state, params_of(), value_func=abs)


def static(entry):
    """The choices of an optimizer that are numbers, which would be traced."""
    given = inspect.signature(entry.factory).parameters
    options = [k for k in REGISTRY[entry.name].options if k in given]
    return tuple(k for k in options if type(given[k].default) in (int, float))


@EACH
@pytest.mark.sampled
def test_injected_hyperparameters_leave_choices_alone(entry):
    # Wrapped, so that L-BFGS gets its function.
    factory = functools.wraps(entry.factory)(lambda **given: wrap(entry.factory(**given)))
    made = optax.inject_hyperparams(factory, static_args=static(entry))
    tx, params = entry.make(), params_of()
    injected = made(**entry.settings)
    wanted = step_of(entry)(tx)(params, tx.init(params), params)
    state = jax.jit(injected.init)(params)
    found = step_of(entry)(injected)(params, state, params)
    assert {"groups", "state_dtype", "kernel", "nesterov", "maximize"}.isdisjoint(state.hyperparams)
    assert set(state.hyperparams) <= set(inspect.signature(entry.factory).parameters)
    assert jax.tree.structure(found[1].inner_state) == jax.tree.structure(wanted[1])
    for x, y in zip(*map(jax.tree.leaves, (found[0], wanted[0])), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


def test_what_is_off_by_default_is_no_number_to_inject():
    """The number 0 would be traced, and on."""
    for name, spec in REGISTRY.items():
        factory = getattr(jopt, name, None)
        given = inspect.signature(factory).parameters if factory else {}
        for hyper in spec.hypers:
            if hyper.optional == "zero" and hyper.name in given:
                assert given[hyper.name].default is False or given[hyper.name].default > 0, name


def test_injected_sgd_takes_a_group_a_dtype_and_nesterov():
    groups = {"head": jopt.group("^head$", weight_decay=0.1)}
    settings = {"momentum": 0.9, "nesterov": True, "groups": groups, "state_dtype": "bfloat16"}
    tx = optax.inject_hyperparams(jopt.sgd)(0.1, **settings)
    params = params_of()
    updates, state = jax.jit(tx.update)(params, jax.jit(tx.init)(params), params)
    own = jopt.sgd(0.1, **settings)
    assert_identical(updates, own.update(params, own.init(params), params)[0])
    assert sorted(state.hyperparams) == ["dampening", "learning_rate", "momentum", "weight_decay"]


def test_a_count_that_is_injected_names_the_way_out():
    tx = optax.inject_hyperparams(jopt.muon)(0.1)
    with pytest.raises(jopt.ConfigError, match=r"static_args=\('ns_steps',\)"):
        jax.jit(tx.init)(params_of())


OTHERS = {
    "clip": (jopt.clip_by_global_norm, (1.0,), ()),
    "recipe": (jopt.recipes.muon_adamw, (0.1,), ()),
    "average": (jopt.ema, (jopt.sgd(0.1),), ()),
    "counts": (jopt.swa, (jopt.sgd(0.1),), ("start", "every")),
    "wrapper": (jopt.skip_nonfinite, (jopt.sgd(0.1),), ()),
}


@pytest.mark.parametrize("label", OTHERS)
def test_every_other_factory_can_be_injected(label):
    factory, given, static = OTHERS[label]
    tx = optax.inject_hyperparams(factory, static_args=static)(*given)
    state = jax.eval_shape(tx.init, params_of())
    after = jax.eval_shape(tx.update, params_of(), state, params_of())[1]
    assert jax.tree.structure(after) == jax.tree.structure(state)
