"""Directives that list what the code exports, so that no page repeats it by hand.

- `{exports} room ...`: every public name defined in these rooms, a table and then each in full.
- `{torch-classes}`: every class of `torch.optim` with its jopt name.
"""

from __future__ import annotations

import inspect

from docstrings import to_rst
from docutils import nodes
from public import Name, under
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jopt.core.spec import REGISTRY


def _rst(lines: list[str]) -> str:
    return "\n".join(["````{eval-rst}", *lines, "````"])


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]], widths: str) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [header, *rows]:
        first, *rest = row
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in rest)]
    return [*lines, ""]


def _link(name: Name) -> str:
    role = {True: "class", False: "func"}.get(inspect.isclass(name.value), "data")
    return f":py:{role if callable(name.value) else 'data'}:`{name.public}`"


def _entry(name: Name) -> list[str]:
    if inspect.isclass(name.value):
        return [f".. autoclass:: {name.public}", "   :members:", ""]
    kind = "function" if inspect.isroutine(name.value) else "data"
    return [f".. auto{kind}:: {name.public}", ""]


class Exports(SphinxDirective):
    """Every public name defined in the rooms given as arguments."""

    required_arguments = 1
    optional_arguments = 16

    def run(self) -> list[nodes.Node]:
        found = under(*self.arguments)
        if not found:
            raise self.error(f"nothing public in {', '.join(self.arguments)}")
        rows = [(_link(n), " ".join(to_rst([n.summary])).strip()) for n in found]
        lines = _table(("name", "what it is"), rows, "35 65")
        for name in found:
            lines += _entry(name)
        return self.parse_text_to_nodes(_rst(lines))


class TorchClasses(SphinxDirective):
    """Every class of `torch.optim` that a spec says it is."""

    def run(self) -> list[nodes.Node]:
        links = {n.public.rpartition(".")[2]: _link(n) for n in under("jopt.optimizers")}
        rows = [
            (f"``torch.optim.{spec.torch}``", links[spec.name])
            for spec in sorted(REGISTRY.values(), key=lambda s: s.torch or "")
            if spec.torch and spec.name in links
        ]
        return self.parse_text_to_nodes(_rst(_table(("torch", "jopt"), rows, "50 50")))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("exports", Exports)
    app.add_directive("torch-classes", TorchClasses)

    def process(app, what, name, obj, options, lines) -> None:
        lines[:] = to_rst(lines)

    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
