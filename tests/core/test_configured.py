"""Objects that are their call: they print as code, compare, hash and pickle by it."""

from __future__ import annotations

import copy
import inspect
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jopt
from tests import catalog
from tests.core.helpers import params, same, train

S = jopt.schedules


def by_shape(path, leaf):
    return len(leaf.shape) == 1


OBJECTS = [
    jopt.adamw(),
    jopt.adamw(1e-3),
    jopt.sgd(0.1, momentum=0.9, nesterov=True),
    jopt.adam(b1=S.linear(0.9, 0.95, 10), learning_rate=S.warmup_cosine(1e-3, 10, 100)),
    jopt.chain(jopt.clip_by_global_norm(1.0), jopt.chain(jopt.adam(0.1)), mine=jopt.sgd(0.1)),
    jopt.adamw(
        1e-3,
        groups={
            "no_decay": jopt.group("(bias|scale)$", weight_decay=0.0),
            "still": jopt.group("^encoder/", freeze=True),
        },
    ),
    jopt.group("bias", learning_rate=S.constant(0.5)),
    S.join([S.linear(0.0, 1.0, 5), S.join([S.constant(1.0), S.exponential(1.0, 0.9)], [3])], [5]),
    S.multistep(1.0, [3, 5], gamma=0.5),
]
every = pytest.mark.parametrize("made", OBJECTS, ids=repr)


@every
def test_repr_is_the_code_that_makes_it(made):
    again = eval(repr(made), {"jopt": jopt})
    assert again == made
    assert hash(again) == hash(made)
    assert repr(again) == repr(made)


@every
def test_pickle_and_copies_give_equals(made):
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert again == made
        assert hash(again) == hash(made)


@pytest.mark.parametrize("i", range(len(OBJECTS)))
def test_different_calls_differ(i):
    assert [j for j, other in enumerate(OBJECTS) if other == OBJECTS[i]] == [i] or i < 2
    assert OBJECTS[i] != "jopt"


def test_defaults_written_out_are_the_same_call():
    # The repr is what was written; equality is what was meant.
    assert jopt.adamw() == jopt.adamw(1e-3, 0.9, b2=0.999)
    assert hash(jopt.adamw()) == hash(jopt.adamw(1e-3, 0.9, b2=0.999))
    assert repr(jopt.adamw()) == "jopt.adamw()"
    assert repr(jopt.adamw(1e-3, 0.8)) == "jopt.adamw(learning_rate=0.001, b1=0.8)"


@pytest.mark.parametrize(
    "half", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), jnp.float32(0.5)]
)
def test_scalars_of_numpy_and_jax_are_the_numbers_they_hold(half):
    tx = jopt.sgd(half, momentum=half)
    assert tx == jopt.sgd(0.5, momentum=0.5)
    assert hash(tx) == hash(jopt.sgd(0.5, momentum=0.5))
    assert repr(tx) == "jopt.sgd(learning_rate=0.5, momentum=0.5)"
    assert pickle.loads(pickle.dumps(tx)) == tx


@given(
    st.floats(0, 10, allow_subnormal=False),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
    st.dictionaries(st.sampled_from("abc"), st.floats(0, 1), max_size=2),
)
def test_any_numbers_survive_repr_and_pickle(rate, b1, amsgrad, decays):
    groups = {k: jopt.group(f"^{k}", weight_decay=v) for k, v in decays.items()}
    tx = jopt.adamw(rate, b1=b1, amsgrad=amsgrad, groups=groups)
    assert eval(repr(tx), {"jopt": jopt}) == tx
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert tx.config["learning_rate"] == rate


def test_config_has_every_argument():
    assert jopt.sgd(0.1, momentum=0.9).config == {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "dampening": 0.0,
        "weight_decay": 0.0,
        "nesterov": False,
        "maximize": False,
        "decoupled": False,
    }


def test_transforms_are_keys():
    assert len({jopt.sgd(0.1), jopt.sgd(0.1), jopt.sgd(0.2), jopt.adam(0.1)}) == 3


def test_predicates_compare_by_identity_and_print_their_name():
    made = jopt.group(by_shape, weight_decay=0.0)
    assert made == jopt.group(by_shape, weight_decay=0.0)
    assert made != jopt.group(lambda path, leaf: True, weight_decay=0.0)
    assert repr(made) == "jopt.group(match=<by_shape>, weight_decay=0.0)"
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_pickled_transform_takes_the_same_steps():
    tx = OBJECTS[3]
    again = pickle.loads(pickle.dumps(tx))
    same(
        train(again, params(), again.init(params()), range(2)),
        train(tx, params(), tx.init(params()), range(2)),
    )


def test_errors_pickle_with_their_facts():
    error = jopt.GroupError("sgd", "no", path="a/b", expected=1, found=(2,), fix="Do.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is jopt.GroupError
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_every_error_is_a_jopt_error_and_a_value_error():
    for kind in (
        jopt.ConfigError,
        jopt.GroupError,
        jopt.TreeError,
        jopt.StateError,
        jopt.CheckpointError,
    ):
        assert issubclass(kind, jopt.JoptError)
        assert issubclass(kind, ValueError)


def test_a_common_argument_given_as_its_default_is_not_given():
    for common in ({"groups": None}, {"groups": {}}, {"kernel": "xla"}):
        assert jopt.sgd(0.1, **common) == jopt.sgd(0.1)
        assert hash(jopt.sgd(0.1, **common)) == hash(jopt.sgd(0.1))
        assert jopt.sgd(0.1, **common).config == jopt.sgd(0.1).config
    assert jopt.sgd(0.1, state_dtype="int8").config["state_dtype"] == "int8"


FACTORIES = [getattr(jopt, name) for name in ("leafwise", "treewise", "rowwise", "matrixwise")]
FACTORIES += [entry.factory for entry in catalog.CATALOG if entry.factory is not jopt.lbfgs]
FACTORIES += [jopt.clip_by_norm, jopt.clip_by_value, jopt.clip_by_global_norm]


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda f: f.__name__)
def test_signatures_show_what_all_optimizers_take(factory):
    shown = inspect.signature(factory).parameters
    for name in jopt.Common.__annotations__:
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert shown["groups"].default is None
    assert shown["kernel"].default == "xla"
    assert "common" not in shown
    assert not any(p.kind is p.VAR_KEYWORD for p in shown.values()) or factory in FACTORIES[:4]


@pytest.mark.parametrize(
    ("factory", "given"), [(jopt.adamw, ()), (jopt.muon, ()), (jopt.trace, (1,))]
)
def test_a_call_is_bound_once(factory, given, monkeypatch):
    bound, bind = [], inspect.Signature.bind
    monkeypatch.setattr(inspect.Signature, "bind", lambda *a, **k: bound.append(1) or bind(*a, **k))
    factory(*given)
    assert bound == [1]
