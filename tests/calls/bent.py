"""Calls that are wrong in one way each, and whether what comes of one is an answer."""

import inspect
import itertools
import signal
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np

import jopt
from jopt.base import JoptError
from tests.calls.things import THINGS, TRACED, P

ROW, NAMED = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
SPEC = jopt.Spec("plain")
LONGEST = 60
"""Seconds that one call may take."""


class Made:
    """A right value that is made anew for every call."""

    def __init__(self, make):
        self.make = make


class TooLongError(BaseException):
    """Nothing that anybody catches."""


def complete(f, right):
    """The right value of every argument by name, `*` and `**` for those of any number."""
    given = {}
    for p in inspect.signature(f).parameters.values():
        if p.kind in (ROW, NAMED):
            given["*" if p.kind is ROW else "**"] = right.get(p.name, () if p.kind is ROW else {})
        elif p.name in right:
            given[p.name] = right[p.name]
        else:
            assert p.default is not p.empty, f"tests/calls/right.py has no {p.name!r} for {f}"
            given[p.name] = p.default
    return given


def bind(f, given):
    """The arguments as they are written: by position where they have to be."""
    args, kwargs, made = [], {}, {k: _made(v) for k, v in given.items()}
    kinds = inspect.signature(f).parameters
    row = bool(made.get("*"))
    for name, value in made.items():
        if name not in ("*", "**") and name in kinds:
            first = kinds[name].kind is inspect.Parameter.POSITIONAL_ONLY
            by_place = row and kinds[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            if first or by_place:
                args.append(value)
            else:
                kwargs[name] = value
    args += [*made.get("*", ()), *made.get("+", ())]
    return args, {**kwargs, **made.get("**", {})}


def _made(value):
    if isinstance(value, Made):
        return value.make()
    return tuple(map(_made, value)) if type(value) is tuple else value


def bent(f, right, things=THINGS):
    """`(what was done, arguments)`, each wrong, or odd, in one way."""
    given = complete(f, right)
    kinds = inspect.signature(f).parameters
    named = [name for name in given if name not in ("*", "**")]
    for name, thing in itertools.product(named, things):
        yield f"{name} = {thing}", {**given, name: things[thing]}
    for i, thing in itertools.product(range(len(given.get("*", ()))), things):
        row = given["*"]
        yield f"*[{i}] = {thing}", {**given, "*": (*row[:i], things[thing], *row[i + 1 :])}
    for name, thing in itertools.product(given.get("**", {}), things):
        yield f"**{name} = {thing}", {**given, "**": {**given["**"], name: things[thing]}}
    needed = [name for name in named if kinds[name].default is inspect.Parameter.empty]
    for order in [*itertools.permutations(needed[:4])][1:]:
        swapped = {a: given[b] for a, b in zip(needed, order, strict=False)}
        yield f"as {', '.join(order)}", {**given, **swapped}
    for name in needed:
        yield f"without {name}", {k: v for k, v in given.items() if k != name}
    yield "one more", {**given, "**": {**given.get("**", {}), "no_such_argument": 1}}


def answer(f, given, follow=None):
    """`(error that is no answer or None, result)` of one call, and of what follows on it."""
    args, kwargs = bind(f, given)
    return outcome(f, *args, follow=follow, **kwargs)


def told(f, *args, **kwargs):
    """The result of a call, or its error; fails where that is no answer."""
    error, made = outcome(f, *args, **kwargs)
    assert error is None, (f, args, kwargs, error)
    return made


def outcome(f, /, *args, follow=None, **kwargs):
    """The same of a call as it is written."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(LONGEST)
    try:
        made = f(*args, **kwargs)
        if follow is not None:
            follow(made)
        return None, made
    except JoptError as error:
        return None, error
    except (Exception, SystemExit, TooLongError) as error:
        return (None if _told(error) else _shown(error)), error
    finally:
        signal.alarm(0)


def traced(f, right):
    """`(what was done, error)` for numbers that jax traces in place of each argument."""
    given = complete(f, right)
    for name, kind in itertools.product([n for n in given if n not in ("*", "**")], TRACED):
        said = []

        def call(x, name=name, said=said):
            said.append(answer(f, {**given, name: x}, used)[0])

        jax.eval_shape(call, TRACED[kind])
        yield f"{name} = {kind}", said[0]


def _late(*_):
    raise TooLongError


def _told(error):
    """Whether Python itself refuses the call, or the disk, or the command says how it is used."""
    here = error.__traceback__.tb_next is None
    disk = isinstance(error, OSError) and error.errno is not None
    python = here and isinstance(error, TypeError)
    return disk or python or isinstance(error, SystemExit) or _users(error)


def _users(error):
    """Whether it comes out of a function that was given, which is its author's to mend."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    own = [file for file in files if "/jax/" not in file][-1].endswith(("right.py", "things.py"))
    return own and not isinstance(error, jax.errors.ConcretizationTypeError)


def _shown(error):
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    code = frame.tb_frame.f_code
    where = (
        f"{code.co_filename.split('/site-packages/')[-1].split('/calls/')[-1]}:{frame.tb_lineno}"
    )
    return f"{type(error).__name__}: {str(error)[:120]!r} at {where}"


def used(made):
    """Do with what a factory made what its user will do: a late error is none that helps."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    if isinstance(made, jopt.base.Configured):
        assert made == made
        assert repr(made)
        hash(made)
    if isinstance(made, jopt.Transform):
        _updated(made)
    elif isinstance(made, jopt.schedules.Plateau):
        made.update(made.init(), value=1.0)
    elif isinstance(made, jopt.schedules.Schedule):
        jax.eval_shape(made, jax.ShapeDtypeStruct((), jnp.int32))
    elif isinstance(made, jopt.Group):
        used(jopt.adam(groups={"some": made}))
    elif isinstance(made, jopt.Hyper):
        used(jopt.Spec("made", hypers=(made,)))
    elif isinstance(made, jopt.Slot):
        used(jopt.Spec("made", slots=(made,)))
    elif isinstance(made, jopt.Spec):
        numbers = {h.name: 0.5 for h in made.hypers}
        used(jopt.leafwise(made, lambda g, s, p, h: (g, vars(s)), **numbers))
    elif inspect.isfunction(made) and made.__qualname__.startswith("configured"):
        used(made(lambda rate=0.1, **more: jopt.sgd(rate))())


def _updated(tx):
    def one(params, key, value):
        extra = {"value": value, "grad": params, "key": key, "value_fn": lambda x: jnp.sum(x["w"])}
        grads = params
        if rows:
            grads = {"w": jopt.row_gradient(np.asarray([0]), params["w"][:1], params["w"])}
        elif any(part.by_example for part in tx.parts.values()):
            grads = {"w": params["w"][None]}
        return tx.update(grads, tx.init(params), params, **extra)

    rows = any(getattr(part, "spec", SPEC).sparse == "rows" for part in tx.parts.values())
    key = jax.eval_shape(lambda: jax.random.key(0))
    jax.eval_shape(one, {"w": P["w"]}, key, jax.ShapeDtypeStruct((), np.float32))
