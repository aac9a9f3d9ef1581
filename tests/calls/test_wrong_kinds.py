"""One call for each kind of wrong argument, with what its error says."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
import jopt.cli
import jopt.interop.optax
import jopt.interop.safetensors
from jopt import plot
from jopt import schedules as s
from jopt.base import CallError
from tests.calls.things import STATE, TX, Odd, P

KEY, ROW = jax.random.key(0), np.ones(2)
SPEC = jopt.Spec("made", hypers=(jopt.Hyper("rate"),), slots=(jopt.Slot("mu"),))


def rule(g, s, p, h):
    return -h.rate * g, {"mu": s.mu}


def door(rule=rule, **more):
    tx = jopt.leafwise(SPEC, rule, rate=1.0, **more)
    return jax.eval_shape(tx.update, P, tx.init(P), P)


WRONG = [
    # Static choices: arrays are none of them, and are not compared.
    (lambda: jopt.adam(1.0, state_dtype=ROW), "adam: no state is stored in this", r"array\(\["),
    (lambda: jopt.adam(1.0, kernel=jnp.ones(2)), "there is no such kernel", "'xla' or 'pallas'"),
    (lambda: jopt.muon(1.0, adjust_lr=ROW), "muon: adjust_lr is unknown", r"array\(\["),
    (lambda: jopt.muon(1.0, kernels=Odd()), "muon: kernels is unknown", "<odd>"),
    (lambda: jopt.lbfgs(line_search=ROW), "no such line search", "'strong_wolfe' or None"),
    (lambda: jopt.muon(1.0, ns_dtype="text"), "muon: ns_dtype is no floating", "'text'"),
    (lambda: jopt.muon(1.0, ns_dtype=None), "muon: ns_dtype is no floating", "'bfloat16'"),
    (lambda: jopt.muon(1.0, ns_dtype="int8"), "muon: ns_dtype is no floating", "'int8'"),
    (lambda: jopt.apply_updates(P, P, rounding=ROW), "no such rounding", "'stochastic'"),
    (lambda: jopt.apply_updates(P, P, key="k"), "key= is no random key", "'k'"),
    (lambda: jopt.lbfgs(groups=3), "lbfgs: groups= takes a dict", "found:    3"),
    (lambda: jopt.lbfgs(max_iter=2**31), "max_iter is too large", r"below 2\*\*31"),
    (lambda: jopt.sgd(1.0, skips=3), "sgd: skips= selects leaves", "found:    3"),
    (lambda: jopt.sgd(1.0, dampening="x"), "sgd: dampening is not a number", "'x'"),
    # Numbers.
    (lambda: jopt.adam(KEY), "adam: learning_rate is not a number", "key<fry>"),
    (lambda: s.linear(1.0, float("nan"), 3), "linear: end_value is NaN", "a number"),
    (lambda: s.join([1.0, float("nan")], [3]), "join: no schedule", "nan"),
    (lambda: s.table([1.0, True]), "a table is a row of numbers", "True"),
    (lambda: s.table([1.0, float("nan")]), "a table is a row of numbers", "nan"),
    (lambda: s.onecycle(1.0, 9, div_factor=0), "onecycle: div_factor divides", "above 0"),
    (lambda: s.constant(1.0)(True), "constant: this is no step", "True"),
    (lambda: s.constant(1.0)(KEY), "constant: this is no step", "key<fry>"),
    (lambda: s.plateau(1.0).update({}, value=1.0), "no memory of a plateau", "a dict with bad"),
    (lambda: s.plateau(1.0).update(s.plateau(1.0).init(), value=1j), "metric is no number", "1j"),
    (lambda: s.Plateau(init_value=1.0), "what jopt.schedules.plateau makes", "has a default"),
    # Functions of the user's.
    (lambda: s.scaled(1.0, 3, steps=2), "scaled: function is no function", "found:    3"),
    (lambda: s.scaled(1.0, lambda t: "x", steps=2), "function gives no number", "'x' at step 0"),
    (lambda: s.scaled(1.0, lambda: 1.0, steps=2), "takes other arguments", r"which takes \(\)"),
    (lambda: s.product(lambda: 1.0)(3), "takes other arguments", "a function of 1 argument"),
    (lambda: s.product(lambda t: "x")(3), "product: a schedule gives no number", "'x'"),
    (lambda: s.Schedule(3), "schedule: this is no function", "a function of the step"),
    (lambda: plot.values(lambda t: None, 3), "plot: the schedule gives no number", "None"),
    (lambda: plot.values(lambda t: ROW, 3), "gives more than one number", r"shape \(2,\)"),
    (lambda: jopt.minimize(lambda: 1.0, P), "minimize: fun takes other arguments", "of 1 argum"),
    (lambda: jopt.minimize(lambda x: 1.0, P, 1), "fun takes other arguments", "of 2 arguments"),
    (lambda: jopt.minimize(lambda x: x, object()), "a leaf is no array", "object"),
    (lambda: jopt.interop.torch.flax_weights(P, rename=lambda: 1), "rename= takes other", "of 1"),
    # Trees, states and transforms.
    (lambda: TX.init({1: ROW, "a": ROW}), "keys that cannot be sorted", "best of all strings"),
    (lambda: TX.update({1: ROW, "a": ROW}, STATE, P), "cannot be sorted", "of one kind"),
    (lambda: TX.update(P, {1: 2, "adam": 3}, P), "another transform", "a dict with 1, adam"),
    (lambda: jopt.apply_updates({"w": "x"}, {"w": ROW}), "a leaf is no array", "str"),
    (lambda: jopt.apply_updates(jax.eval_shape(lambda: P), P), "a leaf is a shape", "an array"),
    (lambda: jopt.convert_state(TX, STATE, {}), "convert_state keeps all leaves", "among the par"),
    (lambda: jopt.eval_params(jopt.ema(TX).init(P), []), "of other parameters", "no leaves"),
    (lambda: jopt.eval_params(STATE, P, label=[]), "no average is kept by", r"found:    \[\]"),
    (lambda: jopt.chain(s.plateau(1.0)), "chain: this is no transform", "schedules.plateau"),
    (lambda: jopt.chain(jopt.Transform), "chain: this is no transform", "Call the factory"),
    (lambda: jopt.Transform(optax.sgd(1.0)), "these are no parts", "jopt.chain"),
    (lambda: jopt.Group("w", 1, {}), "a Group is what jopt.group makes", "freeze=True"),
    (lambda: jopt.sharding.init(TX, P, "x"), "no tree of shardings", "found:    'x'"),
    (lambda: jopt.sharding.init(TX, P, {}), "no tree of shardings", "state_sharding"),
    (lambda: jopt.row_gradient(ROW, ROW, ROW), "no rows to point at", "indices of float"),
    (lambda: jopt.interop.optax.export_state(3, P, STATE, ()), "no jopt transform", "found:    3"),
    (lambda: jopt.interop.optax.import_state(P, TX, ()), "no jopt transform", "a jopt.Transform"),
    # Plain functions: flags, words, paths, names.
    (lambda: jopt.load("x", strict=ROW), "load: strict is yes or no", r"array\(\["),
    (lambda: jopt.load("x", progress=1), "progress is of another kind", "True or False or None"),
    (lambda: jopt.load_state_dict(P, P, keep=1.0), "keep=: it names leaves by patterns", "1.0"),
    (lambda: jopt.load(pth="x"), "missing a required argument: 'path'", "you mean path="),
    (lambda: jopt.extend(TX, STATE, P, report=1), "extend: report is yes or no", "found:    1"),
    (lambda: jopt.interop.safetensors.load(None), "path is of another kind", "found:    None"),
    (lambda: jopt.set_hyperparams(STATE, label=3), "label is of another kind", "a str or None"),
    (lambda: jopt.cli.main("inspect"), "main: argv is a row of words", "'inspect'"),
    # Factories and doors of one's own.
    (lambda: jopt.configured(s.linear(1.0, 0.0, 3)), "prefix is of another kind", "a str"),
    (lambda: jopt.configured(named_by="x")(rule), "named_by is of another kind", "an argument"),
    (lambda: jopt.configured(shared=3), "shared is of another kind", "a TypedDict"),
    (lambda: jopt.leafwise(TX, rule), "this is no spec", "a jopt.Spec, then the rule"),
    (lambda: jopt.leafwise(SPEC, 3, rate=1.0), "made: rule is no function", "found:    3"),
    (lambda: door(lambda g: g), "the rule takes other arguments", "of 4 arguments"),
    (lambda: door(lambda g, s, p, h: g), "does not give the update and all", r"\(update, \{'mu'"),
    (lambda: door(lambda g, s, p, h: (g, {})), "does not give the update", "no mu"),
    (lambda: door(prepare=lambda h: 3), "made: prepare gives no numbers", "{name: scalar}"),
    (lambda: door(options={"a": [1]}), "an option cannot be hashed", "words, numbers"),
    (lambda: jopt.Hyper("rate", "text"), "rate: valid is no interval", r"'\[0, inf\)'"),
    (lambda: jopt.Hyper("rate", scheduled=1), "Hyper: scheduled is yes or no", "found:    1"),
    (lambda: jopt.Slot("mu", "round"), "mu: there is no such shape", "'scalar' or a function"),
    (lambda: jopt.Slot("mu", dtype="text"), "mu: dtype is no dtype", "'int32'"),
    (lambda: jopt.Spec("x", slots=(jopt.Slot("m", init="y"),)), "a hyperparameter that", "y"),
    (lambda: jopt.Spec("x", hypers=["rate"]), "hypers are declarations in a row", "jopt.Hyper"),
    (lambda: jopt.Spec("x", counts="yes"), "counts is of another kind", "a function"),
]


@pytest.mark.parametrize(("call", "problem", "more"), WRONG)
def test_what_is_wrong_is_told_with_what_is_right(call, problem, more):
    with pytest.raises(jopt.JoptError, match=re.compile(f"{problem}.*{more}", re.DOTALL)):
        call()


def test_traced_numbers_are_single_and_of_the_dtype_of_numbers():
    @jax.jit
    def rate(x):
        return s.linear(x, 0.0, 4)(2)

    assert rate(3) == rate(3.0) == 1.5  # an integer counts as a number, traced or not
    for make in (jopt.sgd, s.constant, lambda x: s.plateau(1.0, factor=x)):
        with pytest.raises(jopt.ConfigError, match=r"(?s)number.*shape \(3,\)") as e:
            jax.eval_shape(lambda x, make=make: make(x) and x, jnp.ones(3))
        assert "jax.vmap" in str(e.value)
    runs = jax.vmap(lambda x: s.constant(x)(0))(jnp.arange(3.0))
    assert runs.tolist() == [0, 1, 2]
    with pytest.raises(jopt.ConfigError, match="pct_start shapes the curve"):
        jax.eval_shape(lambda x: s.onecycle(1.0, 9, pct_start=x)(0), 0.3)
    with pytest.raises(jopt.ConfigError, match="numbers that jax traces cannot be drawn"):
        jax.eval_shape(lambda x: plot.values(s.constant(x), 3), 0.3)


def test_counts_past_int32_are_as_long_as_a_run_can_be():
    for tx in (jopt.accumulate(TX, 2**70), jopt.swa(TX, start=2**70, every=2**70)):
        jax.eval_shape(tx.update, P, tx.init(P), P)
        assert "1180591620717411303424" in repr(tx)
    long = s.product(lambda t: 2**40)
    assert long(0) == 2.0**40


def test_a_wrong_line_leaves_no_figure_behind():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    for line in ({"colour": "red"}, {"color": 3.5}):
        with pytest.raises(jopt.ConfigError, match="matplotlib does not draw such a line"):
            plot.schedule(s.constant(1.0), 3, **line)
    with pytest.raises(jopt.ConfigError, match="steps is a number of steps"):
        plot.schedule(s.constant(1.0), "x")
    assert pyplot.get_fignums() == before


def test_errors_of_calls_are_type_errors_too():
    with pytest.raises(TypeError) as e:
        jopt.load_state_dict(STATE, STATE, strickt=False)
    assert isinstance(e.value, CallError)
    assert e.value.fix == "Did you mean strict=?"
