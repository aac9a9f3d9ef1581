"""Objects that remember the call that made them.

A transform or a schedule is a bundle of closures, and closures neither print, compare,
hash nor pickle. So each public factory is wrapped in `configured`: what it returns carries
the factory and its arguments, and all four are defined by that call.

Arguments that many factories share are declared once, as a `TypedDict`. A factory passes them
on as `**common: Unpack[Common]`, and its signature shows each of them by name.
"""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable, Mapping
from typing import (
    Annotated,
    Any,
    ParamSpec,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from jopt.base.arguments import Signature, short
from jopt.base.call import Call
from jopt.base.described import described
from jopt.base.errors import CallError, ConfigError

P = ParamSpec("P")
C = TypeVar("C", bound="Configured")


class Configured:
    """Prints, compares, hashes and pickles as the call that made it."""

    _call: Call | None = None

    def _made_by(self, call: Call) -> Self:
        # The body may return an object another factory has stamped; `copy` would call that again.
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, _call=call)
        return made

    @property
    def config(self) -> dict[str, Any]:
        """Every argument of the call that made this, defaults included, by name."""
        return {} if self._call is None else dict(self._call.arguments)

    def __repr__(self) -> str:
        return object.__repr__(self) if self._call is None else repr(self._call)

    def describe(self) -> str:
        """The call that made this with every argument, defaults included, one a line.

        `repr` is the short form, on one line: what was written.

        >>> import jopt
        >>> print(jopt.group("^b$", weight_decay=0.0).describe())
        jopt.group(match='^b$', freeze=False, weight_decay=0.0)
        """
        return repr(self) if self._call is None else described(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.describe())}</pre>"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or self._call is None:
            return self is other
        return other._call is not None and self._call.key == other._call.key

    def __hash__(self) -> int:
        return object.__hash__(self) if self._call is None else hash(self._call.key)

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._call is None:
            return super().__reduce__()
        return _recall, (self._call.factory, self._call.args, self._call.kwargs)


@overload
def configured(prefix: Callable[P, C]) -> Callable[P, C]: ...


@overload
def configured(
    prefix: str = "",
    torch: Mapping[str, str] | None = None,
    *,
    shared: type | None = None,
    named_by: str | None = None,
) -> Callable[[Callable[P, C]], Callable[P, C]]: ...


def configured(
    prefix: str | Callable[..., Any] = "",
    torch: Mapping[str, str] | None = None,
    *,
    shared: type | None = None,
    named_by: str | None = None,
) -> Any:
    """Decorate a factory of transforms: what it makes is its call.

    It then prints as the code that makes it, and compares, hashes and pickles by the factory and
    its arguments. All of jopt's factories are decorated so. What they are given is settled
    first: numbers of one element are Python numbers, iterators are tuples. What does not fit the
    signature is a `ConfigError`.

    **Arguments:**

    - `prefix`: where users find the factory, `"mylib."`; without, `@configured` decorates.
    - `torch`: what torch calls its arguments, for errors; see `Spec.torch_names`.
    - `shared`: a `TypedDict` whose fields stand in the signature beside a `**rest: Any`. One
      that the factory's own annotation unpacks, `**common: Unpack[jopt.Common]`, is found there.
    - `named_by`: the argument whose `name` errors use in place of the factory's.

    What `jopt.leafwise` and the other doors return is decorated too, and prints as their call.

    >>> import jopt
    >>> @jopt.configured("mylib.")
    ... def gentle(learning_rate=0.1):
    ...     return jopt.chain(jopt.clip_by_global_norm(1.0), jopt.sgd(learning_rate))
    >>> gentle(0.01)
    mylib.gentle(learning_rate=0.01)
    >>> gentle() == gentle(0.1)
    True
    """
    if inspect.isroutine(prefix):
        return configured()(prefix)
    if not isinstance(prefix, str):
        raise _other("prefix", prefix, "a str, or nothing")
    _check("torch", torch, torch is None or isinstance(torch, Mapping), "{torch's name: ours}")
    fields = shared is None or (isinstance(shared, type) and bool(_fields(shared)))
    _check("shared", shared, fields, "a TypedDict")

    def decorate(function: Callable[P, C]) -> Callable[P, C]:
        def called(written: inspect.BoundArguments) -> C:
            return function(*written.args, **written.kwargs)

        _check("the factory", function, inspect.isroutine(function), "a function")
        return factory(function, called, prefix, torch, shared=shared, named_by=named_by)

    return decorate


def factory(
    function: Callable[P, Any],
    make: Callable[[inspect.BoundArguments], C],
    prefix: str,
    torch: Mapping[str, str] | None = None,
    *,
    shared: type | None = None,
    named_by: str | None = None,
) -> Callable[P, C]:
    """The factory with the signature of `function`, whose calls are bound to it once.

    `make` gives the transform for what was written, see `configured` for the rest.
    """
    signature, names = _opened(function, shared)
    known = named_by is None or (isinstance(named_by, str) and named_by in signature.parameters)
    _check("named_by", named_by, known, "an argument of the factory")
    # Made at the first call: a program imports many factories, and calls few.
    takes = functools.cache(lambda: Signature(function.__name__, signature, torch))

    @functools.wraps(function)
    def factory(*args: P.args, **kwargs: P.kwargs) -> C:
        # A transform holds no arrays: one that the user donates later would be gone.
        written = takes().bind(args, kwargs)
        made = make(written)
        if not isinstance(made, Configured):
            raise ConfigError(
                function.__name__,
                "a factory returns a transform",
                expected="a jopt.Transform",
                found=repr(made)[:100],
            )
        return made._made_by(Call(prefix, factory, written, names, named_by))

    factory.__signature__ = signature  # type: ignore[attr-defined]
    return factory


def _check(name: str, given: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise _other(name, given, expected)


def _other(name: str, given: Any, expected: str) -> CallError:
    return CallError(
        "configured", f"{name} is of another kind", expected=expected, found=short(given)
    )


def _opened(
    function: Callable[..., Any], shared: type | None
) -> tuple[inspect.Signature, frozenset[str]]:
    """The signature with the shared arguments as parameters of their own, and their names."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    rest = parameters[-1:] if parameters and parameters[-1].kind is _REST else []
    if rest and shared is None:
        hint = rest[0].annotation
        # Looked at as text first: to evaluate every annotation of every factory takes its time.
        if isinstance(hint, str) and hint.startswith("Unpack["):
            hint = eval(hint, inspect.unwrap(function).__globals__)
        if "Unpack" in str(get_origin(hint)):
            (shared,), rest = get_args(hint), []
    if shared is None:
        return signature, frozenset()
    own = parameters[:-1] if parameters[-1].kind is _REST else parameters
    mine = {p.name for p in own}  # its own default and place in the signature stand
    common = [p for name, p in _fields(shared).items() if name not in mine]
    return signature.replace(parameters=[*own, *common, *rest]), frozenset(p.name for p in common)


_REST = inspect.Parameter.VAR_KEYWORD


@functools.cache
def _fields(shared: type) -> dict[str, inspect.Parameter]:
    """The parameters that a `TypedDict` declares; many factories share one."""
    hints = get_type_hints(shared, include_extras=True)
    return {name: _parameter(name, hint) for name, hint in hints.items()}


def _parameter(name: str, hint: Any) -> inspect.Parameter:
    # `Annotated[kind, default]`; what is not annotated so is off by default.
    kind, default = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _recall(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return factory(*args, **kwargs)
