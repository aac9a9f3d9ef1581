"""What factories take by position and by name, beside torch's and optax's live signatures."""

import collections
import copy
import inspect
import itertools
import pickle
import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import jopt
import jopt.interop.torch
import jopt.plot
from jopt.core.spec import REGISTRY
from tests.core.helpers import error

S = jopt.schedules

# What optax has under another name. Schedules of torch's name are as torch's, with the number to
# start from in place of the optimizer.
OPTAX = {
    "galore": None,  # its learning rate is no transform, and is told
    "muon_adamw": optax.contrib.muon,
    "accumulate": optax.MultiSteps,
    "constant": optax.constant_schedule,
    "cosine": optax.cosine_decay_schedule,
    "exponential": optax.exponential_decay,
    "join": optax.join_schedules,
    "linear": optax.linear_schedule,
    "polynomial": optax.polynomial_schedule,
    "warmup_cosine": optax.warmup_cosine_decay_schedule,
    "ema": None,  # an average of the gradients
}
TORCH = {
    "constant_factor": "ConstantLR",
    "cosine_annealing": "CosineAnnealingLR",
    "cosine_restarts": "CosineAnnealingWarmRestarts",
    "cyclic": "CyclicLR",
    "exponential": "ExponentialLR",
    "multiplicative": "MultiplicativeLR",
    "multistep": "MultiStepLR",
    "onecycle": "OneCycleLR",
    "plateau": "ReduceLROnPlateau",
    "polynomial": "PolynomialLR",
    "scaled": "LambdaLR",
    "step": "StepLR",
    "swa": "SWALR",
}
# Other names for the same thing, where no Spec tells them.
ALIKE = {
    "T_0": "steps",
    "T_max": "steps",
    "T_mult": "multiplier",
    "anneal_epochs": "steps",
    "base_lr": "base_value",
    "base_optimizer": "tx",
    "decay_steps": "steps",
    "eta_min": "end_value",
    "every_k_schedule": "every",
    "lr": "learning_rate",
    "lr_lambda": "function",
    "max_lr": "max_value",
    "opt": "tx",
    "step_size_down": "steps_down",
    "step_size_up": "steps_up",
    "swa_lr": "swa_value",
    "total_iters": "steps",
    "transition_steps": "steps",
}


def factories():
    """`{public name: factory}` of all that give a transform or a schedule."""
    homes = {"jopt": jopt, "jopt.schedules": S, "jopt.recipes": jopt.recipes}
    return {
        f"{home}.{name}": made
        for home, module in homes.items()
        for name, made in inspect.getmembers(module)
        if isinstance(made, types.FunctionType)
        and made.__module__.startswith(
            ("jopt.optim", "jopt.trans", "jopt.wrap", "jopt.sche", "jopt.rec")
        )
        and hasattr(made, "__wrapped__")
    }


FACTORIES = factories()


def by_position(function, required=False):
    found = inspect.signature(function).parameters.values()
    return [
        p.name
        for p in found
        if p.kind < inspect.Parameter.VAR_POSITIONAL and (p.default is p.empty or not required)
    ]


def torch_has(path):
    """What torch takes by position where `path` takes its arguments, entry by entry of tuples."""
    name = path.split(".")[-1]
    if path.startswith("jopt.schedules."):
        if name not in TORCH:
            return None
        module = torch.optim.swa_utils if name == "swa" else torch.optim.lr_scheduler
        theirs = getattr(module, TORCH[name])
        first = {"cyclic": [], "onecycle": [], "constant_factor": ["value"]}.get(
            name, ["init_value"]
        )
        more = by_position(theirs)[1:]
        alike = ALIKE | ({"max_lr": "peak_value"} if name == "onecycle" else {})
        return first + [alike.get(n, n) for n in more], len(first) + len(
            by_position(theirs, True)
        ) - 1
    spec = REGISTRY.get(name)
    if spec is None or spec.torch is None:
        return None
    names = by_position(getattr(torch.optim, spec.torch))[1:]
    entries = [
        [o for t, o in spec.torch_names.items() if t.split("[")[0] == n] or [n] for n in names
    ]
    return [ours for row in entries for ours in row], 0


def optax_has(path):
    name = path.split(".")[-1]
    schedule = path.startswith("jopt.schedules.")
    theirs = OPTAX.get(name)
    if name not in OPTAX and not schedule:
        theirs = getattr(optax, name, None) or getattr(optax.contrib, name, None)
    if theirs is None:
        return None
    return [ALIKE.get(n, n) for n in by_position(theirs)], len(by_position(theirs, True))


@pytest.mark.parametrize("path", FACTORIES)
def test_what_stands_without_a_name_means_the_same_in_torch_and_optax(path):
    ours = by_position(FACTORIES[path])
    required = len(by_position(FACTORIES[path], True))
    others = [found for found in (torch_has(path), optax_has(path)) if found is not None]
    known = [required, int(ours[:1] == ["learning_rate"])]  # first in every optimizer there is
    for names, needed in others:
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ours, names, strict=False))
        known.append(len([*pairs]))
        # All that we take means the same there; or the other needs more, and is refused here.
        assert len(ours) == known[-1] or needed > len(ours)
    # Beyond what must be given there is only what another has too.
    assert len(ours) <= max(known)


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (lambda: jopt.rmsprop(0.1, 0.9, 1e-8, 1.0), 3),
        (lambda: jopt.adagrad(0.1, 0.1), 1),
        (lambda: jopt.adam(0.1, 0.9, 0.999, 1e-8, 1e-3), 4),
        (lambda: jopt.sgd(0.1, 0.9, True), 2),
        (lambda: S.plateau(0.1, "min"), 1),
        (lambda: S.warmup_cosine(0.0, 1.0, 10, 100), 3),
        (lambda: jopt.recipes.muon_adamw(0.1, (3.4, -4.8, 2.0)), 1),
    ],
)
def test_more_without_a_name_are_refused(call, most):
    with pytest.raises(TypeError, match="Name what follows: ") as caught:
        call()
    assert isinstance(caught.value, jopt.ConfigError)
    assert len(caught.value.expected.split(", ")) == most


def test_the_errors_name_the_argument():
    with error(
        jopt.ConfigError,
        """
        master_weights: takes one argument by position
          expected: tx
          found:    2: jopt.sgd(), 'float64'
          Name what follows: dtype=.
        """,
    ):
        jopt.master_weights(jopt.sgd(), "float64")
    with error(
        jopt.ConfigError,
        """
        adam: b1 is not a number
          expected: a number in [0, 1), or a schedule step -> number
          found:    (0.9, 0.99) (tuple)
          The entries of torch's betas are arguments of their own.
        """,
    ):
        jopt.adam(0.1, (0.9, 0.99))


@pytest.mark.parametrize(
    ("factory", "name", "told"),
    [
        (jopt.adam, "lr", "learning_rate="),
        (jopt.adam, "betas", "b1= and b2="),
        (jopt.adam, "wieght_decay", "weight_decay="),
        (jopt.adam, "mu_dtype", "state_dtype="),
        (jopt.adamw, "mask", "groups="),
        (jopt.adafactor, "d", "clipping_threshold="),
        (jopt.rmsprop, "alpha", "decay="),
        (jopt.lbfgs, "memory_size", "history_size="),
        (jopt.muon, "adjust_lr_fn", "adjust_lr="),
        (jopt.clip_by_global_norm, "max_nrom", "max_norm="),
        (S.cosine_annealing, "T_max", "steps="),
        (S.onecycle, "max_lr", "peak_value="),
        (S.linear, "transition_steps", "steps="),
    ],
)
def test_an_unknown_name_is_told_ours(factory, name, told):
    with pytest.raises(jopt.ConfigError, match=f"there is no argument '{name}'") as caught:
        factory(**{name: 1.0})
    assert caught.value.fix == f"Did you mean {told}?"


def test_every_name_of_torch_is_known():
    for spec in [s for s in REGISTRY.values() if s.torch]:
        factory = getattr(jopt, spec.name)
        ours = inspect.signature(factory).parameters
        for name in [*inspect.signature(getattr(torch.optim, spec.torch)).parameters]:
            if name not in ours:
                with pytest.raises(TypeError) as caught:
                    factory(**{name: 1.0})
                assert caught.value.fix is not None, (spec.name, name)


def test_missing_and_twice_given_arguments_are_told():
    with pytest.raises(jopt.ConfigError, match="step: missing a required argument: 'step_size'"):
        S.step(1.0)
    with pytest.raises(jopt.ConfigError, match="sgd: multiple values for argument 'learning_rate'"):
        jopt.sgd(0.1, learning_rate=0.1)
    with pytest.raises(TypeError, match="takes one argument by position"):
        jopt.adagrad(0.1, 0.1)


ROWS = {
    "map": lambda: map(int, ["3", "5"]),
    "generator": lambda: (n for n in (3, 5)),
    "zip": lambda: (a for (a,) in zip([3, 5])),
    "keys": lambda: {3: 0, 5: 0}.keys(),
    "values": lambda: {"a": 3, "b": 5}.values(),
    "set": lambda: {5, 3},
    "frozenset": lambda: frozenset({5, 3}),
    "range": lambda: range(3, 6, 2),
    "deque": lambda: collections.deque([3, 5]),
    "numpy": lambda: np.array([3, 5]),
    "jax": lambda: jnp.array([3, 5]),
    "list": lambda: [3, 5],
    "numbers": lambda: (np.int64(3), np.int32(5)),
}


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_any_row_is_the_same_call_as_a_tuple(make):
    made = S.multistep(1.0, make(), gamma=0.5)
    assert made.config["milestones"] == (3, 5)
    assert repr(made) == "jopt.schedules.multistep(init_value=1.0, milestones=(3, 5), gamma=0.5)"
    assert made == S.multistep(1.0, (3, 5), gamma=0.5)
    for again in (made, pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert [float(again(t)) for t in (2, 3, 5)] == [1.0, 0.5, 0.25]
        assert hash(again) == hash(made)


def test_rows_of_every_kind_of_factory():
    joined = S.join((S.constant(v) for v in (1.0, 2.0)), map(int, "4"))
    assert joined == S.join([S.constant(1.0), S.constant(2.0)], [4])
    assert float(joined(4)) == 2.0
    assert S.table(np.linspace(0, 1, 3)) == S.table(iter([0.0, 0.5, 1.0]))
    assert repr(S.table(np.linspace(0, 1, 3))) == "jopt.schedules.table(values=(0.0, 0.5, 1.0))"
    short = jopt.muon(ns_coefficients=(c for c in (1.5, -0.5, 0.0)))
    assert short == jopt.muon(ns_coefficients=[1.5, -0.5, 0.0])
    assert eval(repr(short)) == short
    sequence = {"milestones": iter([2]), "schedulers": (("ConstantLR", {}) for _ in range(2))}
    both = jopt.interop.torch.scheduler("SequentialLR", 0.1, **sequence)
    assert float(both(9)) == np.float32(0.1)
    spec = jopt.Spec("rows_test", hypers=map(jopt.Hyper, ["a"]), slots=(jopt.Slot(n) for n in "mn"))
    assert spec.by_name.keys() == {"a"}
    assert [s.name for s in spec.active_slots({})] == ["m", "n"]


def test_what_is_given_may_change_later():
    marks, groups = [3], {"b": jopt.group("b", weight_decay=0.0)}
    schedule, tx = S.multistep(1.0, marks), jopt.adamw(groups=groups)
    told = repr(schedule), repr(tx), hash(tx)
    marks.append(5)
    groups["c"] = jopt.group("c", freeze=True)
    assert (repr(schedule), repr(tx), hash(tx)) == told


def test_a_mapping_is_no_row():
    with pytest.raises(jopt.ConfigError, match="milestones are steps in a row"):
        S.multistep(1.0, {3: 0.5})


def test_rows_for_functions_that_make_nothing():
    names = ["a.weight", "a.bias"]
    both = jopt.interop.torch.huggingface_groups(names)
    assert jopt.interop.torch.huggingface_groups(iter(names)) == both == (names[:1], names[1:])
    params = {"w": jnp.ones(2), "b": jnp.zeros(2)}
    tx = jopt.chain(jopt.clip_by_norm(1.0), jopt.sgd(0.1, 0.9))
    state = tx.init(params)
    order = ["w", "b"]
    saved = jopt.interop.torch.export_optimizer(tx, params, state, order)
    for row in (iter(order), dict.fromkeys(order).keys(), np.array(order)):
        made = jopt.interop.torch.import_optimizer(tx, params, saved, row)
        assert made.keys() == state.keys()
    for row in (iter(["learning_rate", "momentum$"]), {"learning_rate": 0, "momentum$": 0}.keys()):
        report = jopt.load_state_dict(state, jopt.state_dict(state), keep=row)
        assert report.keys() == state.keys()
    plan = S.plateau(1.0, factor=0.5, patience=0)
    metric = [3.0, 2.0, 2.0, 1.0]
    assert jopt.plot.values(plan, 4, metric=iter(metric)).tolist() == [1.0, 1.0, 1.0, 0.5]
