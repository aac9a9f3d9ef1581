"""The laws, held against an optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jopt.base import CallError, ConfigError, as_row, called, check_kind, meant
from jopt.core import Transform
from jopt.core.tree import Tree, layout_of
from jopt.testing import devices as _devices
from jopt.testing import dtypes as _dtypes
from jopt.testing import leaves as _leaves
from jopt.testing import persistence as _persistence
from jopt.testing import steps as _steps
from jopt.testing import structure as _structure
from jopt.testing.law import LAWS, BrokenError, Law
from jopt.testing.report import Finding, LawError, Verdict
from jopt.testing.subject import EXTRA, SHAPES, Subject, treats_entries_alone, wanted

WHO = "check"
ENTERED = (_devices, _dtypes, _leaves, _persistence, _steps, _structure)
"""The modules whose import fills `LAWS`."""

USUAL = ("float32", "bfloat16", "float16")


def check(
    tx: Any,
    *,
    params: Tree = None,
    laws: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    dtypes: Iterable[str] = USUAL,
    extra: Iterable[str] = (),
    elementwise: bool | None = None,
    raises: bool = True,
) -> Verdict:
    """Hold an optimizer to the laws: jopt's, optax's or your own.

    What jopt's own optimizers are tested with, of anything with `init(params)` and
    `update(grads, state, params)`: shapes and dtypes that stay, one compilation, no hidden memory,
    a state that survives saving to the bit, no NaN of zero, huge or tiny gradients, half precision
    that follows float32, a first step against the gradient, derivatives through steps,
    sharded parameters. `jopt.testing.LAWS` has all of them, each with what it says. All with the
    usual dtypes compile some fifty programs.

    **Arguments:**

    - `tx`: the optimizer, or a function of no arguments that makes it: `jopt.adam`,
      `lambda: optax.adam(1e-3)`.
    - `params`: a tree of the shapes to try it with, arrays or shapes; numbers are drawn. By default
      a tree with leaves of 0 to 3 axes.
    - `laws`: the names of the laws to ask; by default all.
    - `skip`: the names of laws that the optimizer does not claim, such as `"descends"` for one
      that begins to move later.
    - `dtypes`: the dtypes of parameters, by default float32, bfloat16 and float16; also float64,
      complex64 and complex128. A law that says nothing of dtypes is asked with float32.
    - `extra`: the names of extra arguments that its update needs, of `value`, `grad`, `value_fn`,
      `sampled_fn`, `hessian` and `key`. A jopt transform says so itself.
    - `elementwise`: whether it treats every entry alone, so that entries may change places.
      `None` goes by what a jopt transform says, and by no for others.
    - `raises`: whether a broken law is an error; if `False`, the report alone tells.

    **Returns:** a `Verdict`.

    **Raises:** `LawError`, which is an `AssertionError`, with every finding; `ConfigError` for
    arguments of another kind.

    >>> import jopt.testing
    >>> print(jopt.testing.check(jopt.sgd(0.1), laws=["shapes", "pickles"], dtypes=["float32"]))
    2 laws hold, 0 are broken
    """
    check_kind(WHO, "raises", "bool", raises)
    check_kind(WHO, "elementwise", "bool | None", elementwise)
    asked = _names("laws", LAWS if laws is None else laws, list(LAWS))
    skipped = dict.fromkeys(_names("skip", skip, list(LAWS)), "as told")
    kinds = _names("dtypes", dtypes, ["float64", *USUAL, "complex64", "complex128"])
    more = _names("extra", extra, list(EXTRA))
    made = _made(tx)
    alone = treats_entries_alone(made) if elementwise is None else elementwise
    subject = Subject(made, SHAPES if params is None else _shapes(params), more, alone)
    _wanted(made)
    held, findings = [], []
    for name in asked:
        one = LAWS[name]
        lacks = [claim for claim in one.of if not subject.is_it(claim)]
        if name not in skipped and lacks:
            skipped[name] = f"it is not known to be {' and '.join(lacks)}"
        if name in skipped:
            continue
        of = ["float32"] if one.dtypes is None else [k for k in kinds if k in one.dtypes]
        wrong = [found for dtype in of if (found := _finding(one, subject, dtype))]
        findings += wrong
        held += [] if wrong else [name]
    told = tuple((name, why) for name, why in skipped.items() if name in asked)
    report = Verdict(tuple(held), tuple(findings), told)
    if raises and not report.ok:
        raise LawError(WHO, f"{_shown(made)} breaks laws\n{report}", report=report)
    return report


def _finding(one: Law, subject: Subject, dtype: str) -> Finding | None:
    try:
        one(subject, dtype)
    except BrokenError as b:
        return Finding(one.name, one.says, dtype, b.problem, b.path, b.expected, b.found)
    except Exception as error:  # whatever the optimizer raises
        first = str(error).strip().split("\n", 1)[0][:200]
        problem = f"raises {type(error).__name__}: {first}"
        return Finding(one.name, one.says, dtype, problem)
    return None


def _names(name: str, given: Any, known: list[str]) -> tuple[str, ...]:
    """A row of names of which each is known."""
    row = as_row(tuple(given) if isinstance(given, Mapping) else given)
    row = (row,) if isinstance(row, str) else row
    if not isinstance(row, tuple) or not all(isinstance(word, str) for word in row):
        raise CallError(
            WHO, f"{name} is a row of names", expected=", ".join(known), found=repr(given)[:100]
        )
    for word in row:
        if word not in known:
            raise ConfigError(
                WHO,
                f"{name}: there is no {word!r}",
                expected=", ".join(known),
                found=word,
                fix=_near(word, known),
            )
    return row


def _near(word: str, known: list[str]) -> str | None:
    told = meant(word, known)
    return None if told is None else told.replace("=", "")


def _is_optimizer(tx: Any) -> bool:
    return callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))


def _made(tx: Any) -> Any:
    """The optimizer itself."""
    if isinstance(tx, type) or not (_is_optimizer(tx) or callable(tx)):
        raise CallError(
            WHO,
            "this is no optimizer",
            expected="what has init(params) and update(grads, state, params), or a function of no "
            "arguments that makes it",
            found=repr(tx)[:100],
        )
    if _is_optimizer(tx):
        return tx
    made = called(WHO, "tx", tx)
    if not _is_optimizer(made):
        raise ConfigError(
            WHO,
            "the function makes no optimizer",
            expected="what has init(params) and update(grads, state, params)",
            found=repr(made)[:100],
            fix="A function with arguments: check(lambda: optax.adam(1e-3)).",
        )
    return made


def _shapes(params: Any) -> Tree:
    """The shapes of the leaves of a tree, of which each has numbers."""

    def shape(x: Any) -> tuple[int, ...]:
        dtype = getattr(x, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise ConfigError(
                WHO,
                "params is a tree of floating arrays, or of their shapes",
                expected="arrays, or jax.ShapeDtypeStruct",
                found=repr(x)[:100],
            )
        return tuple(x.shape)

    layout_of(WHO, params)  # which says what is wrong with its containers
    if not jax.tree.leaves(params):
        raise ConfigError(
            WHO, "params has no leaves to try the optimizer with", found=repr(params)[:100]
        )
    return jax.tree.map(shape, params)


def _wanted(tx: Any) -> None:
    unknown = sorted(wanted(tx) - set(EXTRA)) if isinstance(tx, Transform) else []
    if unknown:
        raise ConfigError(
            WHO,
            f"its update needs {', '.join(unknown)}, which the laws cannot give",
            expected=", ".join(EXTRA),
        )


def _shown(tx: Any) -> str:
    return repr(tx)[:200] if isinstance(tx, Transform) else type(tx).__name__
