"""A reader of pickles that builds plain data and calls nothing else.

Python's own unpickler calls what the file names. This one has the same opcodes, and each acts
on exact built-in types only: a name of the file is looked up in a table of makers, never in a
module, and no attribute of any object is read, set or called by the file.
"""

from __future__ import annotations

import _compat_pickle
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from jopt.base import LINE, printable
from jopt.interop.torchfiles.pickles.placeholder import (
    Fields,
    Name,
    Placeholder,
    RefusedError,
    Unfinished,
)

Persistent = Callable[[Any], Any]
Maker = Callable[["Machine", tuple[Any, ...]], Any]

_DICTS = (dict, OrderedDict, Counter, Fields)


class Machine:
    """One pickle.

    **Arguments:** `file` stands at its first byte, and afterwards behind its last; `makers`: what
    is built for a name that is called, and `constants`: what a name itself is; `settle`: what an
    object of plain data becomes of the state that comes later; `persistent`: what its persistent
    ids stand for.
    """

    def __init__(
        self,
        file: BinaryIO,
        makers: Mapping[str, Maker],
        constants: Mapping[str, Any],
        settle: Callable[[Any, Any], Any],
        persistent: Persistent,
    ) -> None:
        self._file, self._makers, self._constants = file, makers, constants
        self._settle, self._persistent = settle, persistent
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object; `RefusedError` if there is none."""
        try:
            for opcode, arg, _ in pickletools.genops(self._file):
                if opcode.name == "STOP":
                    return self._stack.pop()
                if opcode.name in _PUSHES:
                    self._stack.append(arg)
                    continue
                step = _STEPS.get(opcode.name)
                if step is None:
                    raise RefusedError(
                        f"its pickle has an opcode that is never data: {opcode.name}"
                    )
                step(self, arg)
        except RefusedError:
            raise
        except (RecursionError, MemoryError, OverflowError) as error:
            raise RefusedError(f"its pickle asks for too much: {type(error).__name__}") from None
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            first = str(error).split("\n")[0] or type(error).__name__
            raise RefusedError(f"its pickle is damaged: {printable(first, LINE)}") from None
        raise RefusedError("its pickle has no end")

    def call(self, function: Any, args: Any) -> Any:
        """What a call of `function` would have made, if that is plain data."""
        if type(args) is not tuple:
            raise RefusedError("its pickle calls something with what are no arguments")
        if isinstance(function, Placeholder):
            return Placeholder(function.name, args)
        if not isinstance(function, Name):
            raise RefusedError(f"its pickle calls a {type(function).__name__}")
        maker = self._makers.get(function.text)
        return Placeholder(function.text, args) if maker is None else maker(self, args)

    def named(self, module: Any, name: Any) -> Any:
        """What a name of the file stands for."""
        if not (type(module) is type(name) is str):
            raise RefusedError("its pickle names something by what is no text")
        # Pickles of torch use the names of Python 2.
        if (module, name) in _compat_pickle.NAME_MAPPING:
            module, name = _compat_pickle.NAME_MAPPING[module, name]
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        text = f"{module}.{name}"
        return self._constants.get(text, Name(text))

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        rows, self._stack = self._stack, self._marks.pop()
        return rows

    def _tuple(self, n: int) -> None:
        rows = tuple(self._stack[-n:])
        if len(rows) < n:
            raise RefusedError("its pickle is damaged: a tuple of what is not there")
        self._stack[-n:] = [rows]

    def _append(self, rows: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Placeholder):
            target = target.entries
        if type(target) is not list:
            raise RefusedError(f"its pickle appends to a {type(target).__name__}")
        target.extend(rows)

    def _set(self, rows: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Placeholder):
            target = target.items
        if type(target) not in _DICTS or len(rows) % 2:
            raise RefusedError(f"its pickle sets an item of a {type(target).__name__}")
        for key, value in zip(rows[::2], rows[1::2], strict=True):
            target[key] = value

    def _add(self, _: Any) -> None:
        rows, target = self._marked(), self._stack[-1]
        if type(target) is not set:
            raise RefusedError(f"its pickle adds to a {type(target).__name__}")
        target.update(rows)

    def _pair(self) -> list[Any]:
        value, key = self._stack.pop(), self._stack.pop()
        return [key, value]

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def _put(self, key: Any) -> None:
        top = self._stack[-1]
        self._memo[int(key)] = top
        if isinstance(top, Unfinished):
            top.keys.append(int(key))

    def _get(self, key: Any) -> None:
        self._stack.append(self._memo[int(key)])

    def _global(self, arg: str) -> None:
        self._stack.append(self.named(*arg.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        module, name = self._pair()
        self._stack.append(self.named(module, name))

    def _inst(self, arg: str) -> None:
        rows = self._marked()
        self._stack.append(self.call(self.named(*arg.split(" ", 1)), tuple(rows)))

    def _obj(self, _: Any) -> None:
        kind, *rows = self._marked()
        self._stack.append(self.call(kind, tuple(rows)))

    def _reduce(self, _: Any) -> None:
        function, args = self._pair()
        self._stack.append(self.call(function, args))

    def _newobj_ex(self, _: Any) -> None:
        kwargs = self._stack.pop()
        kind, args = self._pair()
        if type(kwargs) is not dict:
            raise RefusedError("its pickle calls something with what are no arguments")
        if kwargs and isinstance(kind, Name):  # no maker takes arguments by name
            self._stack.append(Placeholder(kind.text, (*args, kwargs)))
        else:
            self._stack.append(self.call(kind, args))

    def _build(self, _: Any) -> None:
        target, state = self._pair()
        if isinstance(target, Placeholder):
            target.state = state
        elif isinstance(target, Unfinished):
            done = self._settle(target, state)
            self._memo.update(dict.fromkeys(target.keys, done))
            target = done
        else:
            target = self._settle(target, state)
        self._stack.append(target)

    def _persist(self, _: Any) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


Step = Callable[[Machine, Any], Any]


def _onto(make: Callable[[Machine], Any]) -> Step:
    def step(m: Machine, _: Any) -> None:
        made = make(m)  # may change which list the stack is
        m._stack.append(made)

    return step


# What genops decodes is what is pushed.
_PUSHES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def _dict(m: Machine) -> dict[Any, Any]:
    rows = m._marked()
    return dict(zip(rows[::2], rows[1::2], strict=True))


_STEPS: dict[str, Step] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NONE": _onto(lambda m: None),
    "NEWTRUE": _onto(lambda m: True),
    "NEWFALSE": _onto(lambda m: False),
    "EMPTY_LIST": _onto(lambda m: []),
    "EMPTY_DICT": _onto(lambda m: {}),
    "EMPTY_SET": _onto(lambda m: set()),
    "EMPTY_TUPLE": _onto(lambda m: ()),
    "LIST": _onto(Machine._marked),
    "DICT": _onto(_dict),
    "TUPLE": _onto(lambda m: tuple(m._marked())),
    "FROZENSET": _onto(lambda m: frozenset(m._marked())),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "APPEND": lambda m, _: m._append([m._stack.pop()]),
    "APPENDS": lambda m, _: m._append(m._marked()),
    "SETITEM": lambda m, _: m._set(m._pair()),
    "SETITEMS": lambda m, _: m._set(m._marked()),
    "ADDITEMS": Machine._add,
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": lambda m, _: m._marked(),
    "DUP": _onto(lambda m: m._stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine._put),
    "MEMOIZE": lambda m, _: m._put(len(m._memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine._get),
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "INST": Machine._inst,
    "OBJ": Machine._obj,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._newobj_ex,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persist,
}
"""What each opcode does; those that are missing reach for what is outside of the file."""
