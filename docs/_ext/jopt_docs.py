"""Directives that list what the code exports, so that no page repeats it by hand.

- `{exports} room ...`: every public name defined in these rooms, a table and then each in full.
- `{optimizers} name ...`: a table of these optimizers, each with a page of its own; `*` are those
  that no such table before it has.
- `{example} name`: what an example of `examples/` is for, what it prints and draws, and its code.
- `{gallery}`: the pictures of all optimizers, by family.
- `{torch-classes}`: every class of `torch.optim` with its jopt name.
- `{types}`: what the names in signatures stand for.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import optimizer_pages
from annotations import aliases, linked, signature_of
from docstrings import to_rst
from docutils import nodes
from facts import Facts
from outside import NAMES
from public import Name, names, under
from rst import entry, link, summary, table
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jopt.core.spec import REGISTRY

PAGES = "api/optimizers"
EXAMPLES = Path(__file__).parents[2] / "examples"


def _rst(lines: list[str]) -> str:
    return "\n".join(["````{eval-rst}", *lines, "````"])


class Exports(SphinxDirective):
    """Every public name defined in the rooms given as arguments."""

    required_arguments = 1
    optional_arguments = 16

    def run(self) -> list[nodes.Node]:
        found = under(*self.arguments)
        if not found:
            raise self.error(f"nothing public in {', '.join(self.arguments)}")
        lines = table(("name", "what it is"), [(link(n), summary(n)) for n in found], "35 65")
        for name in found:
            lines += entry(name)
        return self.parse_text_to_nodes(_rst(lines))


class Optimizers(SphinxDirective):
    """A table of optimizers, with what each keeps and what others call it."""

    required_arguments = 1
    optional_arguments = 64

    def run(self) -> list[nodes.Node]:
        every = {n.public.rpartition(".")[2]: n for n in under(optimizer_pages.ROOM)}
        listed = self.env.temp_data.setdefault("optimizers", [])
        chosen = [
            n for a in self.arguments for n in ([a] if a != "*" else every) if n not in listed
        ]
        if unknown := [n for n in chosen if n not in every]:
            raise self.error(f"no optimizers: {', '.join(unknown)}")
        listed += chosen
        if not chosen:
            return []
        return self.parse_text_to_nodes(_rst(self._lines([every[n] for n in chosen], chosen)))

    def _lines(self, found: list[Name], pages: list[str]) -> list[str]:
        rows = []
        for name in found:
            facts = Facts(name.value)
            each = facts.bytes("matrix")
            told = f"``{facts.spec.torch}``" if facts.torch else ""
            rows.append((link(name), summary(name), f"{each:.3g}" if each else "0", told))
        header = ("name", "what it is", "bytes an entry", "torch.optim")
        hidden = [
            ".. toctree::",
            "   :hidden:",
            "",
            *(f"   optimizers/{page}" for page in pages),
            "",
        ]
        return [*table(header, rows, "20 50 14 16"), *hidden]


class Gallery(SphinxDirective):
    """The pictures of all optimizers, by family."""

    def run(self) -> list[nodes.Node]:
        lines = []
        for title, found in optimizer_pages.families().items():
            pictures = [line for name in found for line in optimizer_pages.drawn(name, linked=True)]
            lines += [f".. rubric:: {title}", "", ".. container:: gallery", ""]
            lines += [f"   {line}".rstrip() for line in pictures]
        return self.parse_text_to_nodes(_rst(lines))


class Example(SphinxDirective):
    """An example: its docstring, output and picture as `run_examples.py` kept them, its code."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        source, static = EXAMPLES / f"{name}.py", Path(self.env.srcdir) / "_static"
        self.env.note_dependency(str(source))
        code = ast.parse(source.read_text())
        said = ast.get_docstring(code) or ""
        picture = [f".. image:: /_static/{name}.png", f"   :alt: what {name} draws", ""]
        lines = [
            *to_rst(said.split("\n")),
            *(picture if (static / f"{name}.png").exists() else []),
            f".. literalinclude:: /_static/examples/{name}.txt",
            "   :language: text",
            "",
            f".. literalinclude:: /../examples/{name}.py",
            "   :language: python",
            f"   :lines: {code.body[1].lineno}-",  # behind the docstring
            "",
        ]
        return self.parse_text_to_nodes(_rst(lines))


class TorchClasses(SphinxDirective):
    """Every class of `torch.optim` that a spec says it is."""

    def run(self) -> list[nodes.Node]:
        links = {n.public.rpartition(".")[2]: link(n) for n in under(optimizer_pages.ROOM)}
        rows = [
            (f"``torch.optim.{spec.torch}``", links[spec.name])
            for spec in sorted(REGISTRY.values(), key=lambda s: s.torch or "")
            if spec.torch and spec.name in links
        ]
        return self.parse_text_to_nodes(_rst(table(("torch", "jopt"), rows, "50 50")))


class Types(SphinxDirective):
    """What the names in signatures stand for, each with what it says of itself."""

    def run(self) -> list[nodes.Node]:
        lines = []
        for alias in aliases().values():
            head = f".. py:type:: {alias.name}" if alias.written else f".. py:class:: {alias.name}"
            said = ["", f"   ``{alias.written}``", ""] if alias.written else [""]
            text = to_rst(inspect.cleandoc(alias.says).split("\n"))
            where = f"   From ``{alias.home}``."
            lines += [head, *said, *(f"   {line}".rstrip() for line in text), where, ""]
        return self.parse_text_to_nodes(_rst(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("exports", Exports)
    app.add_directive("optimizers", Optimizers)
    app.add_directive("example", Example)
    app.add_directive("gallery", Gallery)
    app.add_directive("torch-classes", TorchClasses)
    app.add_directive("types", Types)
    here = {name.public for name in names()} | aliases().keys()

    def docstring(app, what, name, obj, options, lines) -> None:
        lines[:] = to_rst(lines)

    def signature(app, what, name, obj, options, args, returned) -> Any:
        if what not in ("function", "method", "class") or args is None:
            return None
        bound = what == "method" and not isinstance(
            inspect.getattr_static(_owner(name), name.rpartition(".")[2], None), staticmethod
        )
        return signature_of(obj, lambda word: word in here or word in NAMES, bound)

    homes = {name.public: name.home for name in names()}

    def spelt_out(app, doctree) -> None:
        # The signatures of overloads are autodoc's own, with names as the code has them.
        for signature in doctree.findall(desc_signature):
            home = homes.get(f"{signature.get('module')}.{signature.get('fullname')}")
            for reference in signature.findall(pending_xref) if home else ():
                full = linked(reference["reftarget"], home, here.__contains__)
                if full in here:
                    reference["reftarget"] = full

    def write(app) -> None:
        optimizer_pages.write(Path(app.srcdir) / PAGES)

    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("doctree-read", spelt_out)
    app.connect("missing-reference", unlinked)
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _owner(name: str) -> Any:
    """The class of a method that autodoc calls `module.Class.method`."""
    found = {n.public: n.value for n in names()}
    return found.get(name.rpartition(".")[0])


def unlinked(app: Sphinx, env: Any, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """A name in a signature that leads nowhere, as short as it is written in the code."""
    target = node.get("reftarget", "")
    if node.get("refdomain") == "py" and node.get("reftype") == "class" and "." in target:
        return nodes.Text(target.rpartition(".")[2])
    return None
