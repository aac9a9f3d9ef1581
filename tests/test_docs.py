"""The documentation is true: its code runs, its tables are whole, every public name is in it.

A page is one namespace, run from top to bottom as `tests.pages` says. Those of docs/howto are run
entry by entry, in tests/test_howto.py.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys

import pytest
import torch

from tests.pages import DOCS, ROOT, as_users_programs, blocks, run, run_block, run_console

PAGES = [p for p in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))) if "_build" not in p.parts]

ELSEWHERE = {"your_own.md"}
"""Run with what they import, in tests/examples/test_own_optimizer.py."""

BESIDE_OTHERS = {"cheatsheet.md", "faq.md", "index.md"}
"""Pages that run torch and optax beside jopt."""

EXPORTS = re.compile(r"^```\{exports\} (.+)$", re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.parent.name != "howto" and page.name not in ELSEWHERE],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_the_code_on_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    with as_users_programs() if page.name in BESIDE_OTHERS else contextlib.nullcontext():
        run(page.read_text(), str(page), {"__name__": "__page__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_code_on_a_page_fits_its_width(page):
    lines = [line for _, code in blocks(page.read_text()) for line in code.splitlines()]
    # Error messages are as long as they are.
    assert not [line for line in lines if len(line) > 100 and "Error: " not in line]


def test_a_page_with_a_wrong_result_fails():
    with pytest.raises(AssertionError, match=r"3\s+Got:\s+2"):
        run_block(">>> 1 + 1\n3\n", "page.md", 1, {})
    with pytest.raises(ZeroDivisionError):
        run_block("1 / 0\n", "page.md", 1, {})
    run_console("$ jopt --version\njopt ...\n$ echo $?\n0\n", "page.md", 1)
    with pytest.raises(AssertionError, match=r"page.md, block at line 7, \$ jopt --version"):
        run_console("$ jopt --version\njopt 0.0\n", "page.md", 7)


@pytest.fixture(scope="module")
def public():
    """`docs/_ext/public.py`, which the site itself is built with."""
    spec = importlib.util.spec_from_file_location("public", DOCS / "_ext" / "public.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["public"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["public"]


def test_every_public_name_is_on_one_api_page(public):
    shown = {}
    for page in sorted((DOCS / "api").glob("*.md")):
        text = page.read_text()
        rest = ["jopt.optimizers"] if "```{optimizers} *\n" in text else []  # a page each
        for rooms in [*EXPORTS.findall(text), *rest]:
            for name in public.under(*rooms.split()):
                shown.setdefault(name.public, []).append(page.name)
    found = {name.public: name for name in public.names()}
    missing = [f"{n} (defined in {found[n].home})" for n in found if n not in shown]
    assert not missing, f"add their rooms to an {{exports}} of docs/api: {missing}"
    assert not {n: pages for n, pages in shown.items() if len(pages) > 1}
    assert {"jopt.adamw", "jopt.Transform", "jopt.schedules.cosine", "jopt.JoptError"} <= set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_name_that_a_page_mentions_exists(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    missing = []
    for dotted in set(re.findall(r"`(jopt(?:\.\w+)+)", text)):
        try:
            pkgutil.resolve_name(dotted)
        except (ImportError, AttributeError):
            missing.append(dotted)
    assert not missing


def test_every_file_that_the_architecture_names_is_there():
    named = re.findall(r"[\w/]+/\w+\.py", (DOCS / "architecture.md").read_text())
    assert len(named) > 40
    known = [str(path) for room in ("jopt", "tests") for path in (ROOT / room).rglob("*.py")]
    assert not [name for name in named if not any(p.endswith(f"/{name}") for p in known)]


def test_every_public_name_has_a_docstring(public):
    assert not [n.public for n in public.names() if not n.summary]


def test_a_docstring_becomes_restructured_text():
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        to_rst = importlib.import_module("docstrings").to_rst
    finally:
        sys.path.pop(0)
    source = """Step, as `torch.optim.X` with |g|.

    With η the rate:

        p ← p·(1 − η·λ)

        q ← *p*

    **Arguments** (torch's):

    - `lr`: η ≥ 0,
      a number.

          lr = 1

    >>> x = `1`
    2
    """
    assert (
        "\n".join(to_rst(inspect.cleandoc(source).split("\n")))
        == inspect.cleandoc("""
    Step, as ``torch.optim.X`` with \\|g\\|.

    With η the rate:

    ::

        p ← p·(1 − η·λ)

        q ← *p*

    **Arguments** (torch's):

    - ``lr``: η ≥ 0,
      a number.

      ::

          lr = 1

    >>> x = `1`
    2
    """)
        + "\n"
    )


# What torch's base class and its subclasses' shared arguments offer.
MODULE = importlib.import_module("torch.optim.optimizer")
HOOKS = {n for n in vars(MODULE) if re.match("register_optimizer_.*_hook$", n)}
DUNDERS = {n for n in vars(torch.optim.Optimizer) if re.match("__(repr|.etstate)__", n)}
METHODS = {n for n in dir(torch.optim.Optimizer) if not n.startswith("_")}
ATTRIBUTES = {n for n in vars(torch.optim.SGD([torch.zeros(1)])) if not n.startswith("_")}
FLAGS_OF_GROUPS = set(torch.optim.Adam([torch.zeros(1)]).param_groups[0]) - {
    *("params", "lr", "betas", "eps", "weight_decay", "amsgrad", "decoupled_weight_decay")
}
SURFACE = HOOKS | DUNDERS | METHODS | ATTRIBUTES | FLAGS_OF_GROUPS | {"param_names"}


def rows_of(section):
    """The table rows of docs/torch.md under a heading: the names in the first cell, the line."""
    text = (DOCS / "torch.md").read_text()
    text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [(set(re.findall(r"`(\w+)", row.split("|")[1])), row) for row in rows]


def test_the_torch_table_has_a_row_for_everything_on_the_base_class():
    rows = rows_of("The base class")
    named = [name for names, _ in rows for name in names]
    assert not SURFACE - set(named)
    assert len(named) == len(set(named)), "one row each"
    assert {"foreach", "register_step_pre_hook", "__repr__", "profile_hook_step"} <= SURFACE


def test_every_row_of_the_torch_table_leads_to_code_that_runs():
    text = (DOCS / "torch.md").read_text()
    sections = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"): body
        for title, body in re.findall(r"^### (.+)\n((?:(?!^##)[^\n]*\n)*)", text, re.MULTILINE)
    }
    for _, row in rows_of("The base class"):
        anchor = re.search(r"\(#([\w-]+)\)", row)
        assert anchor, f"no link: {row}"
        assert blocks(sections[anchor[1]]), f"no code under #{anchor[1]}"
