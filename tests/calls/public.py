"""The public callables, found by walking the modules: a new one needs no line here."""

import importlib.util
import inspect
import sys
from pathlib import Path

import jopt.cli

PAGE = Path(__file__).parents[2] / "docs" / "_ext" / "public.py"


def names():
    """What the site documents, see `docs/_ext/public.py`, and the command."""
    spec = importlib.util.spec_from_file_location("public", PAGE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["public"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    del sys.modules["public"]
    yield from ((name.public, name.value) for name in module.names())
    yield "jopt.cli.main", jopt.cli.main


def callables():
    """`(name, callable, how)`: functions, and of classes the constructor and the methods.

    `how` is `"function"`, `"class"` or `"method"`; a method is named `jopt.Transform.init` and is
    not bound.
    """
    for name, value in names():
        if not callable(value) or (isinstance(value, type) and issubclass(value, Exception)):
            continue
        if not isinstance(value, type):
            if not hasattr(value, "__origin__") and inspect.isroutine(value):
                yield name, value, "function"
            continue
        yield name, value, "class"
        for called, method in vars(value).items():
            seen = called == "__call__" or not called.startswith("_")
            if seen and inspect.isfunction(method):
                yield f"{name}.{called}", method, "method"
