"""The site as it is built: what its search finds, what its pages show, and how they fit.

One build serves all tests: the one in the folder that `JOPT_SITE` names, where `.ci/run` has
just made it, or one of their own.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sphinx.search.en import SearchEnglish

from tests.processes import environment

DOCS = Path(__file__).parent.parent / "docs"

SEVEN = ("lamb", "lars", "adan", "sophia", "prodigy", "soap", "shampoo")
# What people look for, and the page that has to be among those they find.
WORDS = {
    **{n: f"api/optimizers/{n}" for n in SEVEN},
    "llrd": "words",
    "wandb": "words",
    "tensorboard": "words",
    "privacy": "api/transforms",
    "retention": "words",
    "custom": "words",
    "cookbook": "words",
    "accumulation": "words",
    "faq": "faq",
    "cheat": "cheatsheet",
    "numerics": "numerics",
    "template": "your_own",
    "examples": "examples/index",
    "logging": "words",
    "resume": "words",
}


@pytest.fixture(scope="module")
def tools():
    """The modules that the site is built with."""
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        names = ("annotations", "facts", "optimizer_pages", "public")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    if made := os.environ.get("JOPT_SITE"):
        return Path(made)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", folder / "trees", DOCS, folder / "html"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def found(site):
    """A search: the pages that have a word, by the index that browsers are sent."""
    text = (site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    stem, objects = SearchEnglish({}).stem, {}
    for entries in index["objects"].values():
        for page, *_, name in entries:
            objects.setdefault(name.lower(), set()).add(page)

    def pages(word):
        hits = set(objects.get(word.lower(), ()))
        for table in (index["terms"], index["titleterms"]):
            for key in {word.lower(), stem(word.lower())}:
                at = table.get(key, [])
                hits |= {at} if isinstance(at, int) else set(at)
        return {index["docnames"][i] for i in hits}

    return pages


@pytest.mark.slow
def test_the_search_finds_what_people_look_for(found):
    assert not {w: found(w) for w, page in WORDS.items() if page not in found(w)}
    assert not found("nosuchword")


@pytest.mark.slow
def test_the_search_finds_every_public_name(found, tools):
    names = [n.public.rpartition(".")[2] for n in tools["public"].names()]
    assert len(names) > 200
    assert not [n for n in names if not any(p.startswith("api/") for p in found(n))]


@pytest.mark.slow
def test_the_search_finds_every_name_of_torch_and_optax(found):
    rows = [
        line
        for page in ("optax_names", "torch")
        for line in (DOCS / f"{page}.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    codes = " ".join(code for row in rows for code in re.findall("`[^`]+`", row.split("|")[1]))
    names = set(re.findall(r"[A-Za-z_]\w+", codes))
    assert {"scale_by_adam", "MultiSteps", "add_param_group", "GradientTransformation"} <= names
    assert not sorted(n for n in names if not found(n))


@pytest.mark.slow
def test_signatures_show_names_that_lead_somewhere(site, tools):
    pages = {p: p.read_text() for p in site.rglob("*.html")}
    assert not [p for p, text in pages.items() if "ForwardRef" in text]
    types = (site / "api/types.html").read_text()
    aliases = tools["annotations"].aliases()
    assert {"Value", "Tree", "State", "Groups", "Number", "Match"} <= aliases.keys()
    assert not [name for name in aliases if f'id="{name}"' not in types]
    adamw = (site / "api/optimizers/adamw.html").read_text()
    for name in ("Value", "Groups", "StateDtype", "Skips"):
        assert f'href="../types.html#{name}"' in adamw
    assert 'href="../core.html#jopt.Transform"' in adamw
    assert 'href="https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.adamw"' in adamw


@pytest.mark.slow
def test_every_optimizer_has_a_page_with_its_head_and_its_whole_signature(site, tools):
    index = (site / "api/optimizers.html").read_text()
    for name in tools["public"].under("jopt.optimizers"):
        facts = tools["facts"].Facts(name.value)
        page = (site / f"api/optimizers/{facts.name}.html").read_text()
        plain = re.sub(r"<[^>]+>", "", page)
        assert f'href="optimizers/{facts.name}.html' in index
        assert all(f"{argument}" in plain for argument in facts.takes)
        assert all(word in plain for word in (facts.torch, *facts.optax, "in torch", "on a mesh"))
        assert all(slot.name in plain for slot in facts.slots)


@pytest.mark.slow
def test_wide_tables_scroll_in_their_frames(site):
    css = (site / "_static/jopt.css").read_text()
    assert re.search(r"\.table-wrapper \{[^}]*overflow-x: auto", css)
    for path in site.rglob("*.html"):
        text = path.read_text()
        tables = len(re.findall(r'<table class="[^"]*docutils', text))
        assert len(re.findall(r'class="table-wrapper', text)) == tables, path


@pytest.mark.slow
def test_the_site_has_a_sitemap_and_an_icon(site):
    assert "api/optimizers/adamw.html" in (site / "sitemap.xml").read_text()
    assert 'href="_static/favicon.svg"' in (site / "index.html").read_text()


def script(name):
    """A program of the documentation's, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gallery():
    return script("optimizers_gallery")


phone = script("phone")
MANY = 8
"""Columns of numbers: a table with so many scrolls in its frame on a phone."""


@pytest.mark.slow
@pytest.mark.skipif(phone.browser() is None, reason="there is no browser to look with")
def test_no_page_is_wider_than_a_phone_nor_a_table_of_few_columns(site):
    found = phone.looked_at(site)
    assert {"index.html", "cheatsheet.html", "api/optimizers/adamw.html"} <= found.keys()
    assert not {page: x for page, x in found.items() if x["wide"] > phone.WIDTH or x["out"]}
    assert not {page: x for page, x in found.items() if min(x["scrolled"], default=MANY) < MANY}


def test_every_optimizer_is_in_one_family_and_drawn(tools):
    families = tools["optimizer_pages"].families()
    listed = [n.public.rpartition(".")[2] for names in families.values() for n in names]
    every = {n.public.rpartition(".")[2] for n in tools["public"].under("jopt.optimizers")}
    assert sorted(listed) == sorted(every)
    folder = gallery().FOLDER
    assert set(gallery().names()) == every
    missing = every - {p.stem for p in folder.glob("*.png")}
    assert not missing, f"python docs/optimizers_gallery.py {' '.join(missing)}"
    assert json.loads((folder / "ends.json").read_text()).keys() == every


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "rprop"])
def test_the_pictures_show_what_the_optimizers_do(name):
    ends = json.loads((gallery().FOLDER / "ends.json").read_text())[name]
    rates, points = gallery().paths(name)
    for (label, shown), rate, track in zip(ends.items(), rates, points, strict=True):
        assert rate == pytest.approx(shown["rate"], rel=1e-3), label
        assert track[-1].tolist() == pytest.approx(shown["end"], rel=1e-2, abs=1e-2)


def test_the_head_of_an_optimizer_is_what_its_state_is(tools):
    import jopt

    adamw, muon, sgd = (tools["facts"].Facts(f) for f in (jopt.adamw, jopt.muon, jopt.sgd))
    assert [(s.name, s.matrix, s.vector, s.when, s.torch) for s in adamw.slots] == [
        ("mu", "(m, n)", "(n,)", "", "exp_avg"),
        ("nu", "(m, n)", "(n,)", "", "exp_avg_sq"),
        ("nu_max", "(m, n)", "(n,)", "amsgrad", "max_exp_avg_sq"),
    ]
    stored = (None, "bfloat16", "int8")
    assert [adamw.bytes("matrix", state_dtype=x) for x in stored] == [8.0, 4.0, 2.03125]
    assert ("learning_rate", "0.001", "[0, inf)", "lr") in adamw.numbers
    assert (adamw.torch, adamw.optax) == ("torch.optim.AdamW", ["optax.adamw"])
    assert not muon.moves(1)
    assert [s.when for s in sgd.slots] == ["momentum"]
    assert sgd.bytes("vector") == 0


def test_what_signatures_are_made_of_says_what_it_is(tools):
    aliases = tools["annotations"].aliases()
    assert not [f"{a.home}.{a.name}" for a in aliases.values() if not a.says]
    linked = tools["annotations"].linked
    assert linked("Value | None", "jopt.wrappers.mars", aliases.__contains__) == "Value | None"
    known = {"jopt.Transform", "collections.abc.Mapping", "Value"}.__contains__
    assert (
        linked("Mapping[str, 'Value'] | Transform", "jopt.core.groups", known)
        == "collections.abc.Mapping[str, 'Value'] | jopt.Transform"
    )


def test_pictures_stand_on_light_and_dark():
    pictures = sorted((DOCS / "_static").rglob("*.png"))
    assert len(pictures) > 60
    for path in pictures:
        with Image.open(path) as image:
            ground = image.convert("RGBA").getpixel((0, 0))
        assert ground[3] == 0, f"{path.name} has a ground of its own: {ground}"
