"""The laws, held against optimizers of others: what is wrong with them is found, and said."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jopt
import jopt.testing
from jopt.testing import LAWS, Finding, LawError, check

SMALL = {"w": jax.ShapeDtypeStruct((4, 3), jnp.float32), "b": jnp.zeros(3)}
FLOAT32 = {"dtypes": ["float32"], "params": SMALL}


@pytest.fixture(autouse=True)
def as_optax_is_used():
    """optax adds what is of two dtypes and of two ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def broken(tx, **settings):
    return check(tx, raises=False, **settings).broken


def found(tx, **settings):
    """The one finding."""
    (finding,) = check(tx, raises=False, **settings).findings
    return finding


# optax's known faults, by the laws that find them.


def test_rprop_is_one_step_late():
    report = check(optax.rprop(0.01), laws=["descends", "answers"], raises=False, **FLOAT32)
    late, same = report.findings
    assert (late.law, late.problem) == ("descends", "the first step is zero, whatever the gradient")
    assert (same.law, same.path) == ("answers", None)
    assert same.problem == "step 1 is the same for a gradient and for one turned round"
    assert not broken(jopt.rprop(0.01), laws=["descends", "answers"], **FLOAT32)


def test_adadelta_ascends():
    report = check(optax.adadelta(), laws=["descends", "quadratic"], raises=False, **FLOAT32)
    assert report.broken == ("descends", "quadratic")
    assert "the loss would rise" in report.findings[0].problem
    assert report.findings[1].problem == "100 steps on a bowl end higher than they began"
    assert not broken(optax.adadelta(1.0), laws=["descends", "quadratic"], **FLOAT32)
    assert not broken(jopt.adadelta(), laws=["descends"], **FLOAT32)


def test_injected_numbers_are_rounded_with_the_parameters():
    tx = optax.inject_hyperparams(optax.adam)(1e-3)
    finding = found(tx, laws=["numbers"], dtypes=["bfloat16"], params=SMALL)
    assert finding == Finding(
        "numbers",
        LAWS["numbers"].says,
        "bfloat16",
        "a number is rounded to bfloat16 with the parameters",
        ".hyperparams['b1']",
        "float32[0.9]",
        "bfloat16[0.898438]",
    )
    assert not broken(jopt.adam(1e-3), laws=["numbers"], dtypes=["bfloat16"], params=SMALL)


def test_adams_second_moment_stalls_in_bfloat16():
    # b2 = 0.999 is 1 in bfloat16: what is added stays, and nothing is taken away.
    half = {"laws": ["half"], "dtypes": ["bfloat16"], "params": SMALL}
    assert found(optax.adam(1e-3), **half).problem.startswith("step 512 at one gradient is ")
    assert not broken(optax.sgd(0.1, momentum=0.9), **half)
    assert not broken(jopt.adam(1e-3), **half)


def test_zero_gradients_are_nan_in_float16():
    zeros = {"laws": ["zeros"], "dtypes": ["float16"], "params": SMALL}
    finding = found(optax.adam(1e-3), **zeros)
    assert finding.problem == "a parameter after 1 gradients of zero is no number"
    assert finding.found.startswith("float16[nan, nan, ")


FIVE = {
    "adam": (lambda: optax.adam(1e-3), {"dtypes", "zeros", "half", "narrow"}),
    "adadelta": (optax.adadelta, {"descends", "quadratic", "half", "narrow"}),
    "inject_hyperparams": (
        lambda: optax.inject_hyperparams(optax.adam)(1e-3),
        {"dtypes", "zeros", "numbers", "half", "tiny"},
    ),
    "rprop": (lambda: optax.rprop(0.01), {"descends", "answers"}),
    "sgd": (lambda: optax.sgd(0.1, momentum=0.9), set()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIVE)
def test_five_of_optaxs_optimizers_and_all_laws(name):
    make, known = FIVE[name]
    report = check(make, raises=False)
    assert set(report.broken) == known, str(report)
    assert set(report.held) | known | dict(report.skipped).keys() == set(LAWS)


@pytest.mark.slow
def test_jopts_own_hold_all_laws():
    for tx in (jopt.adam, jopt.sgd(0.1, momentum=0.9), jopt.lion, jopt.sophia):
        report = check(tx)
        assert report.ok
        assert len(report.held) >= len(LAWS) - 1


# Optimizers that are wrong in one way each.


def of(update, init=lambda p: {"n": jnp.zeros((), jnp.int32)}):
    return optax.GradientTransformation(init, update)


def down(g):
    return jax.tree.map(lambda x: -0.1 * x, g)


SEEN = []


def remembers(g, s, p=None):
    SEEN.append(1)
    return jax.tree.map(lambda x: -0.1 * x / len(SEEN), g), s


def writes(g, s, p=None):
    s["n"] += 1
    return down(g), {"n": s["n"]}


def around(g, s, p=None):
    return jax.tree.map(lambda x: -0.1 * x / jnp.max(jnp.abs(x)), g), s


def by_row(g, s, p=None):
    return jax.tree.map(lambda x: -x / (1 + jnp.max(jnp.abs(x), axis=0)), g), s


def concrete(g, s, p=None):
    if all(bool(jnp.all(x == 0)) for x in jax.tree.leaves(g)):
        return g, s
    return down(g), s


def whole(p):
    return {"mu": jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), p)}


def blind(g, s, p=None):
    return jax.lax.stop_gradient(down(g)), s


WRONG = {
    "sharded": (of(lambda g, s, p=None: (down(g), s), whole), "after init is not in its pieces"),
    "differentiable": (of(blind), "the derivative of two steps"),
    "structure": (of(lambda g, s, p=None: (down(g), {"n": s["n"] + 0.5})), "another shape or d"),
    "retrace": (of(lambda g, s, p=None: (down(g), {"n": s["n"] + 0.5})), "more than once"),
    "pure": (of(writes), "what update was given is another"),
    "jit": (of(concrete), "raises TracerBoolConversionError"),
    "shapes": (of(lambda g, s, p=None: (down(g), s), lambda p: {"n": len(SEEN)}), "another shape"),
    "permutation": (of(by_row), "what is moved before three steps"),
    "zeros": (of(around), "is no number"),
    "huge": (of(lambda g, s, p=None: (jax.tree.map(lambda x: -x * x, g), s)), "is no number"),
    "still": (of(lambda g, s, p=None: (jax.tree.map(jnp.ones_like, g), s)), "move a parameter"),
    "containers": (of(lambda g, s, p=None: ({k: -v for k, v in g.items()}, s)), "raises"),
    "resumes": (
        of(lambda g, s, p=None: (down(g), s), lambda p: {"f": jax.random.key(0)}),
        "raises CheckpointError",
    ),
    "pickles": (of(lambda g, s, p=None: (down(g), s), lambda p: {"f": lambda: 1}), "raises"),
}


@pytest.mark.parametrize("law", WRONG)
def test_what_is_wrong_in_one_way_is_found(law):
    tx, problem = WRONG[law]
    settings = {"laws": [law], "elementwise": True, **FLOAT32}
    assert problem in found(tx, **settings).problem
    assert not broken(optax.sgd(0.1), **settings)


def test_a_second_call_that_gives_something_else_is_found():
    SEEN.clear()
    assert found(of(remembers), laws="pure", **FLOAT32).problem == "a second call is another"


# What is asked and told.


def test_an_error_has_all_findings():
    with pytest.raises(LawError) as caught:
        check(optax.adadelta(), laws=["descends", "quadratic", "shapes"], **FLOAT32)
    error = caught.value
    assert isinstance(error, AssertionError | jopt.JoptError)
    assert error.report.held == ("shapes",)
    assert str(error).startswith(
        "check: GradientTransformationExtraArgs breaks laws\n1 law holds, 2 are broken\n"
        "descends (float32): The first step goes against the gradient.\n"
    )


def test_a_law_that_asks_for_more_is_not_asked():
    report = check(optax.sgd(0.1), laws=["permutation", "shapes"], skip=["shapes"], **FLOAT32)
    assert dict(report.skipped) == {
        "permutation": "it is not known to be elementwise",
        "shapes": "as told",
    }
    assert str(report).splitlines()[0] == "0 laws hold, 0 are broken"
    assert check(jopt.adam, laws=["permutation"]).held == ("permutation",)
    assert check(jopt.adafactor, laws=["permutation"]).held == ()


def test_extra_arguments_are_given():
    polyak = {"laws": ["quadratic", "pure"], **FLOAT32}
    check(optax.polyak_sgd(), extra=["value"], **polyak)
    assert (
        "raises TypeError" in check(optax.polyak_sgd(), raises=False, **polyak).findings[0].problem
    )
    check(jopt.polyak_sgd, **polyak)


def test_every_law_says_what_it_is():
    assert len(LAWS) >= 25
    for name, law in LAWS.items():
        assert law.name == name
        assert law.says.endswith(".")
        assert set(law.of) <= {"ours", "elementwise"}


TX = jopt.sgd(0.1)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: check(3), "this is no optimizer"),
        (lambda: check(jopt.Transform), "this is no optimizer"),
        (lambda: check(optax.adam), "tx takes other arguments than it is called with"),
        (lambda: check(lambda: 3), "the function makes no optimizer"),
        (lambda: check(TX, laws=["jitt"]), "laws: there is no 'jitt'"),
        (lambda: check(TX, laws=3), "laws is a row of names"),
        (lambda: check(TX, skip=[1]), "skip is a row of names"),
        (lambda: check(TX, dtypes=["int8"]), "dtypes: there is no 'int8'"),
        (lambda: check(TX, extra=["loss"]), "extra: there is no 'loss'"),
        (lambda: check(TX, params={"w": 3}), "params is a tree of floating arrays"),
        (lambda: check(TX, params={}), "params has no leaves"),
        (lambda: check(TX, raises=1), "raises is yes or no"),
        (lambda: check(TX, elementwise="x"), "elementwise is of another kind"),
    ],
)
def test_arguments_are_checked(call, problem):
    with pytest.raises(jopt.ConfigError, match=problem):
        call()
