"""What stands in the place of an object that is no plain data."""

from __future__ import annotations

from typing import Any

from jopt.base import LINE, printable

OLD = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickle of the number that files of torch before 1.6 begin with."""


class RefusedError(Exception):
    """A file that cannot be read: it is damaged, or made to do harm. The text says why."""


class Name:
    """A class, function or constant that a file names. It is never imported.

    >>> Name("argparse.Namespace")
    <argparse.Namespace>
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: str = text

    def __repr__(self) -> str:
        return f"<{printable(self.text, LINE)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Placeholder:
    """An object of a class that is no plain data: what the file says of it, and nothing more.

    No code of its class is run, nor is the class imported. Tensors and numbers within are read.

    **Attributes:** `name` of the class, as the file has it; `args` that it was to be built with;
    `state`, its attributes, mostly a dict; `items` and `entries`, what it holds if it is a kind of
    dict or list.

    >>> Placeholder("transformers.training_args.TrainingArguments")
    <transformers.training_args.TrainingArguments object, not loaded>
    """

    __slots__ = ("args", "entries", "items", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.entries: list[Any] = []

    def __repr__(self) -> str:
        # Not what is in it: that may be endless.
        return f"<{printable(self.name, LINE)} object, not loaded>"


class Unfinished:
    """What gets its content by a later opcode, and becomes another object then.

    **Attributes:** `kind`; `value`, so far; `keys` of the memo that stand for it.
    """

    __slots__ = ("keys", "kind", "value")

    def __init__(self, kind: str, value: Any = None) -> None:
        self.kind, self.value = kind, value
        self.keys: list[int] = []

    def __repr__(self) -> str:
        return f"<{self.kind} without content>"


class Fields(dict[str, Any]):
    """The attributes of an object that is a bag of them, such as `argparse.Namespace`."""
