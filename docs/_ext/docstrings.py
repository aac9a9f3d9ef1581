"""jopt's docstrings as reStructuredText.

They are written to be read in a terminal: backticks for code, `- ` for lists, an indented
block for maths, `>>>` for examples. reStructuredText differs in three places only: code has
two backticks, an indented block must be announced, and a few characters mean something.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_SPECIAL = re.compile(r"\\|\||(?<!\*)\*(?!\*)|(?<=\w)_(?!\w)")
_ITEM = re.compile(r"\s*(- |\d+\. )")


def to_rst(lines: list[str]) -> list[str]:
    """The same docstring as reStructuredText."""
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    done: list[str] = []
    margin = 0  # where text of the enclosing list item, if any, starts
    literal = False  # whether the last block was an indented one, which goes on after a blank line
    for block in paragraphs:
        if not block:
            continue
        indent = len(block[0]) - len(block[0].lstrip())
        item = _ITEM.match(block[0])
        if item or indent < margin:
            margin = len(item[0]) if item else 0
        before, literal = literal, indent >= margin + 4 and not item
        if block[0].lstrip().startswith(">>>"):
            done += [*block, ""]
        elif literal:
            done += [*block, ""] if before else [" " * margin + "::", "", *block, ""]
        else:
            done += [*_prose("\n".join(block)).split("\n"), ""]
    return done


def _prose(text: str) -> str:
    out, last = [], 0
    for code in _CODE.finditer(text):
        out += [_SPECIAL.sub(r"\\\g<0>", text[last : code.start()])]
        # A letter that touches a literal would keep reStructuredText from seeing its end.
        after = text[code.end() : code.end() + 1]
        out += [f"``{code[2].strip()}``" + ("\\ " if after.isalnum() else "")]
        last = code.end()
    return "".join([*out, _SPECIAL.sub(r"\\\g<0>", text[last:])])
