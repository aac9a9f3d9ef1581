"""Where the parts of a manifest's entries stand, found without decoding them."""

from __future__ import annotations

from jopt.checkpoint.manifest import CRC, packer


def text_at(data: bytes, at: int) -> tuple[int, int]:
    """Where the text at this place begins and ends; nowhere, if it is long or written otherwise."""
    head = data[at]
    if 0xA0 <= head < 0xC0:
        return at + 1, at + 1 + (head & 0x1F)
    if head == 0xD9 and data[at + 1] > 0x1F:  # shorter ones are spelled as above
        return at + 2, at + 2 + data[at + 1]
    return len(data), len(data)


def kind_at(data: bytes, at: int, before: bytes) -> bytes:
    """The dtype and the shape of an array whose entry begins here, as they are written.

    Whether they are sound is not looked at; of what is no such entry there is nothing. `before` is
    what the last leaf had: as no kind begins as another one, its bytes are the same kind again.
    """
    if not data.startswith(CRC, at):
        return b""
    at += len(CRC) + 8
    if before and data.startswith(before, at):
        return before
    return data[at : _kind_end(data, at)]


def _kind_end(data: bytes, at: int) -> int:
    if not data.startswith(_DTYPE, at):
        return 0
    at += len(_DTYPE)
    at += 1 + (data[at] & 0x1F)
    if not data.startswith(_SHAPE, at):
        return 0
    at += len(_SHAPE) + 1
    for _ in range(data[at - 1] & 0x0F):
        at += _WIDTHS.get(data[at], 1)
    return at


_DTYPE, _SHAPE = packer.pack("dtype"), packer.pack("shape")
_WIDTHS = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}
"""How many bytes a whole number has that begins so; one, if it is small."""
