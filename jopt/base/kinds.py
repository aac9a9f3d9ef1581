"""Arguments of plain functions and classes, checked for what their annotations say of them.

Factories are `configured`, which settles what they are given. Other functions take trees, which
nobody may copy: of them only flags, words, numbers, paths and functions are looked at.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar, overload

import jax

from jopt.base.arguments import meant, plain, short
from jopt.base.errors import CallError

F = TypeVar("F", bound=Callable[..., Any])

Kind = tuple[str, Callable[[Any], bool]]
"""How errors call it, and whether a value is of it."""


def is_one_of(value: Any, *choices: Any) -> bool:
    """Whether `value` is one of these words, or `None`; arrays are none, and are not compared."""
    return any(value is c or (isinstance(value, str) and value == c) for c in choices)


@overload
def checked(function: F) -> F: ...


@overload
def checked(*, itself: tuple[str, ...]) -> Callable[[F], F]: ...


def checked(function: Any = None, *, itself: tuple[str, ...] = ()) -> Any:
    """Decorate a function whose annotations tell the kinds of its flags, words and paths.

    Raises `CallError` for an argument of another kind, and for a call that the signature does
    not have, with the name that was meant. `itself` names arguments that the function checks.
    """
    if function is None:
        return functools.partial(checked, itself=itself)
    who, signature = function.__name__, inspect.signature(function)
    written = {name: str(p.annotation) for name, p in signature.parameters.items()}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            odd = [name for name in kwargs if name not in written]
            raise CallError(
                who,
                str(error),
                expected=f"{who}({', '.join(written)})",
                fix=meant(odd[0], list(written)) if odd else None,
            ) from None
        for name, value in given.items():
            if name not in itself:
                check_kind(who, name, written[name], value)
        return function(*args, **kwargs)

    # What is wrapped is a factory, here and elsewhere in the tree; this is the function itself.
    del call.__wrapped__
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def check_fields(of: Any) -> None:
    """Raise `CallError` for a field of a dataclass that is of another kind than it declares."""
    for name, annotation, default in _known_fields(of.__class__):
        if (value := getattr(of, name)) is not default:
            check_kind(type(of).__name__, name, annotation, value)


@functools.cache
def _known_fields(kind: type) -> tuple[tuple[str, str, Any], ...]:
    """The fields of a dataclass whose annotations tell of a kind, and their defaults."""
    found = ((field.name, str(field.type), field.default) for field in fields(kind))
    return tuple(each for each in found if _kinds(each[1]))


def check_kind(who: str, name: str, annotation: str, value: Any) -> None:
    """Raise `CallError` for a value of another kind than an annotation says, if that is known."""
    kinds = _kinds(annotation)
    if not kinds or any(holds(value) for _, holds in kinds):
        return
    raise CallError(
        who,
        f"{name} is yes or no" if annotation == "bool" else f"{name} is of another kind",
        expected=" or ".join(told for told, _ in kinds),
        found=short(value),
    )


@functools.lru_cache(maxsize=256)
def _kinds(annotation: str) -> tuple[Kind, ...]:
    """The kinds that an annotation allows; none where it names one that is not known here."""
    found = [_kind(part) for part in _alternatives(ast.parse(annotation, mode="eval").body)]
    return tuple(kind for kind in found if kind) if all(found) else ()


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    else:
        yield node


def _kind(node: ast.expr) -> Kind | None:
    if not isinstance(node, ast.Subscript):
        return KINDS.get(ast.unparse(node))
    of, inside = ast.unparse(node.value), node.slice
    if of == "Literal":
        held = ast.literal_eval(inside)
        choices = held if isinstance(held, tuple) else (held,)
        return " or ".join(map(repr, choices)), lambda x: is_one_of(x, *choices)
    if of == "tuple" and isinstance(inside, ast.Tuple):
        each = _kind(inside.elts[0])
        if each is None:
            return None
        told, holds = each
        return f"a row, each {told}", lambda x: isinstance(x, tuple) and all(map(holds, x))
    return KINDS.get(of)


def _is_whole(x: Any) -> bool:
    x = plain(x)
    return isinstance(x, int) and not isinstance(x, bool)


def _is_number(x: Any) -> bool:
    if isinstance(x, jax.core.Tracer):
        return bool(x.shape == ())
    return _is_whole(x) or isinstance(plain(x), float)


KINDS: dict[str, Kind] = {
    "None": ("None", lambda x: x is None),
    "bool": ("True or False", lambda x: isinstance(plain(x), bool)),
    "int": ("an int", _is_whole),
    "float": ("a number", _is_number),
    "str": ("a str", lambda x: isinstance(x, str)),
    "bytes": ("bytes", lambda x: isinstance(x, bytes | bytearray | memoryview)),
    "os.PathLike": ("an os.PathLike", lambda x: isinstance(x, bytes | os.PathLike)),
    "Callable": ("a function", callable),
    "Mapping": ("a dict", lambda x: isinstance(x, Mapping)),
}
"""By annotation. The system has paths of bytes, too."""
