"""Every entry of docs/howto runs, alone with what stands above the first entry of its page."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.pages import DOCS, as_users_programs, blocks, run

# What people ask: each has a heading.
ASKED = """
Accumulate gradients; Freeze; layer-wise; warm restarts; early, plateau; preemption;
moving average, evaluate; mixed precision; float16, scaled; TensorBoard; wandb; each example;
differentially private; LoRA; two optimizers; GAN; meta-learning; hyperparameters at once; Equinox;
nnx; linen; haiku; sharpness; schedule-free; shard; torch run, middle; Keep the last
"""

SHORT = 26  # lines of code; most entries have ten


@dataclass(frozen=True)
class HowTo:
    """A section of a page: its question, its text, and what the page runs before it."""

    page: str
    title: str
    text: str
    line: int
    before: str

    def __str__(self):
        return f"{self.page}: {self.title}"


def entries(path):
    before, *rest = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    line = before.count("\n")
    for section in rest:
        title, text = section.split("\n", 1)
        yield HowTo(path.stem, title, text, line + 1, before)
        line += section.count("\n")


ENTRIES = [e for path in sorted((DOCS / "howto").glob("*.md")) for e in entries(path)]


@pytest.mark.sampled
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_entry_runs(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    namespace = {"__name__": "__page__"}
    page = f"docs/howto/{entry.page}.md"
    with as_users_programs():
        run(entry.before, page, namespace)
        run(entry.text, page, namespace, entry.line)


def test_an_entry_is_short_and_says_what_comes_out():
    for entry in ENTRIES:
        code = [code for _, code in blocks(entry.text)]
        lines = [line for block in code for line in block.splitlines() if line.strip()]
        assert code or "```console" in entry.text, f"{entry}: no code"
        assert len(lines) <= SHORT, f"{entry}: {len(lines)} lines"
        told = any(sign in entry.text for sign in (">>> ", "assert ", "```console"))
        assert told, f"{entry}: nothing comes out"


def test_what_people_ask_is_there():
    titles = [entry.title for entry in ENTRIES]
    assert len(titles) >= 60
    assert len(titles) == len(set(titles))
    asked = [words.split(", ") for words in " ".join(ASKED.split()).split("; ")]
    assert not [
        words
        for words in asked
        if not any(all(word in title for word in words) for title in titles)
    ]


def test_the_index_has_every_page():
    index = (DOCS / "howto" / "index.md").read_text()
    pages = {path.stem for path in (DOCS / "howto").glob("*.md")} - {"index"}
    assert set(re.findall(r"^\w+$", index, re.MULTILINE)) == pages
