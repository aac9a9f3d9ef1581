"""What stands in signatures: annotations as they are written, and the aliases among them.

An alias spelt out would fill half a page, and what no alias names is said best by its author. So
signatures are taken from the text of the code, and a name in it is made the full name under which
it is documented, here or by another library, which is what links go by.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ForwardRef, get_type_hints

from public import names
from sphinx.util.inspect import stringify_signature

# A name with what stands in front of it by dots, outside of quotes.
_WORD = re.compile(r"('[^']*'|\"[^\"]*\")|[A-Za-z_][\w.]*")
_DEFAULTED = re.compile(r"Annotated\[(.+), [^,]+\]$", re.DOTALL)


@dataclass(frozen=True)
class Alias:
    """A name that stands for a type: `Value = Number | Callable[[Any], Any] | ...`.

    A class that is not public is one too, of which nothing is written.
    """

    name: str
    home: str
    written: str
    says: str


def text_of(annotation: Any) -> str:
    """An annotation as it is written in the code, or printed if there it is no text."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return annotation
    if annotation is None or annotation is type(None):
        return "None"
    if inspect.isclass(annotation) and not hasattr(annotation, "__origin__"):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")


def parameters_of(value: Any) -> dict[str, tuple[str, str]]:
    """For each parameter, and for `return`, what its annotation says and where that is written."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return {}
    home = getattr(inspect.unwrap(value), "__module__", None) or ""
    shared = _shared()
    found = {}
    for name, parameter in signature.parameters.items():
        if parameter.annotation is not parameter.empty:
            by_all = not isinstance(parameter.annotation, str) and name in shared
            found[name] = shared[name] if by_all else (text_of(parameter.annotation), home)
    if signature.return_annotation is not signature.empty:
        found["return"] = (text_of(signature.return_annotation), home)
    return found


@functools.cache
def _shared() -> dict[str, tuple[str, str]]:
    """What every optimizer takes, by name, as `jopt.Common` and those beside it write it."""
    import jopt

    found = {}
    for kind in (jopt.Decaying, jopt.Decoupled, jopt.Coupled):
        for part in reversed((kind, jopt.Steps, jopt.Common)):
            for name, hint in part.__annotations__.items():
                written = text_of(hint)
                default = _DEFAULTED.match(written)
                found[name] = (default[1] if default else written, part.__module__)
    assert found.keys() == get_type_hints(jopt.Coupled).keys()
    return found


@functools.cache
def aliases() -> dict[str, Alias]:
    """Every alias that a public signature uses, and those that these are made of.

    A name that two modules have for two things is none of them: it is spelt out where it is used.
    """
    wanted = []
    for name in names():
        members = vars(name.value).values() if inspect.isclass(name.value) else ()
        for value in (name.value, *(m for m in members if inspect.isfunction(m))):
            wanted += parameters_of(value).values()
        if inspect.isclass(name.value):
            hints = inspect.get_annotations(name.value).values()
            wanted += [(text_of(hint), name.home) for hint in hints]
    found: dict[str, set[Alias]] = {}
    while wanted:
        text, home = wanted.pop()
        for word in words(text):
            alias = _alias(home, word)
            if alias is not None and alias not in found.setdefault(word, set()):
                found[word].add(alias)
                wanted.append((alias.written, alias.home))
    once = {word: one for word, (one, *others) in found.items() if not others}
    return dict(sorted(once.items(), key=lambda item: item[0].lower()))


def words(text: str) -> Iterator[str]:
    """The names in an annotation."""
    return (m[0] for m in _WORD.finditer(text) if not m[1])


@functools.cache
def _alias(home: str, word: str) -> Alias | None:
    """The alias that a module means by a word, wherever it has it from."""
    if not home.startswith("jopt") or "." in word:
        return None
    tree = ast.parse(inspect.getsource(sys.modules.get(home) or importlib.import_module(home)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                if (name.asname or name.name) == word and node.module.startswith("jopt"):
                    return _alias(node.module, name.name)
        if isinstance(node, ast.ClassDef) and node.name == word:
            private = f"{home}.{word}" not in _public()
            return Alias(word, home, "", ast.get_docstring(node) or "") if private else None
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if [t.id for t in targets if isinstance(t, ast.Name)] == [word]:
            says = after.value if isinstance(after, ast.Expr) else None
            told = says.value if isinstance(says, ast.Constant) else ""
            variable = ast.unparse(node.value).startswith(("TypeVar(", "ParamSpec("))
            return None if variable else Alias(word, home, ast.unparse(node.value), str(told))
    return None


def linked(text: str, home: str, known: Callable[[str], bool]) -> str:
    """An annotation with each name as its full one, where `known` says that it leads somewhere."""
    space = vars(sys.modules[home]) if home in sys.modules else {}

    def full(found: re.Match[str]) -> str:
        word = found[0]
        if found[1] or known(word):
            return word
        if (alias := _alias(home, word)) is not None:
            return (
                word
                if word in aliases() or not alias.written
                else linked(alias.written, alias.home, known)
            )
        value: Any = space.get(word.split(".")[0])
        for step in word.split(".")[1:]:
            value = getattr(value, step, None)
        spelt = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', word)}"
        options = (f"jopt.{word}", _public().get(spelt, spelt), spelt.replace("typing.", ""))
        return next((option for option in options if known(option)), word)

    return _WORD.sub(full, text)


@functools.cache
def _public() -> dict[str, str]:
    """Where users find what is defined somewhere else."""
    return {f"{n.home}.{n.public.rpartition('.')[2]}": n.public for n in names()}


def signature_of(value: Any, known: Callable[[str], bool], method: bool = False) -> Any:
    """The signature to show: arguments and return, or `None` where there is none to be had."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    written = parameters_of(value)
    told = {name: linked(*pair, known) for name, pair in written.items()}
    shown = [p.replace(annotation=told.get(p.name, p.empty)) for p in signature.parameters.values()]
    bare = signature.replace(parameters=shown[method:], return_annotation=signature.empty)
    return stringify_signature(bare), told.get("return")
