"""Files made to do harm: nothing in them runs, and each is jopt's error or a placeholder."""

import re
import sys
import zipfile
from contextlib import suppress

import pytest
import torch

import jopt
from jopt.cli import main, torch_file
from jopt.interop.torch import Placeholder, read_checkpoint
from jopt.interop.torchfiles.files import OLD, read_torch

MARKS = []


def mark(*args, **kwargs):
    """What must never be called, though it can be imported."""
    MARKS.append(args)
    return "called"


class Settable:
    """A class whose state is code, and whose construction too."""

    def __new__(cls, *args):
        MARKS.append(args)
        return super().__new__(cls)

    def __setstate__(self, state):
        MARKS.append(state)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MARKS.clear()
    yield tmp_path
    assert MARKS == []
    assert not (tmp_path / "owned").exists()
    assert "antigravity" not in sys.modules


def text(word):
    data = word.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def named(name):
    module, _, word = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + word.encode() + b"\n"


def called(function, *args):
    return named(function) + b"(" + b"".join(args) + b"tR"


def pickled(fragment):
    """`{"bad": what the fragment makes, "n": 7}`."""
    return b"\x80\x02}(" + text("bad") + fragment + text("n") + b"K\x07u."


def zipped(path, data, compression=zipfile.ZIP_STORED, **records):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in records.items():
            file.writestr(f"archive/{name.replace('__', '/')}", content)


SYSTEM, TOUCH = named("os.system"), text("touch owned")
MINE = "tests.interop.torch.test_hostile"
OBJECTS = {
    "reduce": SYSTEM + b"(" + TOUCH + b"tR",
    "the same by another name": called("posix.system", TOUCH),
    "inst": b"(" + TOUCH + b"ios\nsystem\n",
    "obj": b"(" + SYSTEM + TOUCH + b"o",
    "newobj": SYSTEM + TOUCH + b"\x85\x81",
    "newobj with names": SYSTEM + b")}" + text("command") + TOUCH + b"s\x92",
    "a name from the stack": text("os") + text("system") + b"\x93" + TOUCH + b"\x85R",
    "a dotted name": text("os") + text("path.join.__globals__") + b"\x93",
    "eval": called("builtins.eval", text("open('owned', 'w')")),
    "eval of Python 2": called("__builtin__.eval", text("open('owned', 'w')")),
    "exec": called("builtins.exec", text("open('owned', 'w')")),
    "import": called("builtins.__import__", text("antigravity")),
    "a module that is not there": called("antigravity.open", text("x")),
    "getattr": called("builtins.getattr", named("os.path"), text("system")) + TOUCH + b"\x85R",
    "getattr of getattr": called(
        "builtins.getattr", called("builtins.getattr", SYSTEM, text("__self__")), text("system")
    ),
    "apply": called("builtins.map", named(f"{MINE}.mark"), b"]K\x01a"),
    "a partial": called("functools.partial", named(f"{MINE}.mark")) + b"(K\x01tR",
    "its own module": called(f"{MINE}.mark", b"K\x01"),
    "setstate": named(f"{MINE}.Settable") + b")\x81}b",
    "setstate with arguments": named(f"{MINE}.Settable") + b"(K\x01t\x81K\x02b",
    "copyreg": called("copyreg.add_extension", text("os"), text("system"), b"K\x01"),
    "copyreg's constructor": called(
        "copyreg._reconstructor", named(f"{MINE}.Settable"), named("builtins.object"), b"N"
    ),
    "copyreg's newobj": called("copyreg.__newobj__", named(f"{MINE}.Settable"), b"K\x01"),
    "a class made here": called("builtins.type", text("T"), b")}"),
    "a nested pickle": called("pickle.loads", b"B\x04\x00\x00\x00" + b"cos\n"),
    "a nested file": called("torch.load", text("owned")),
    "nested storages": called("torch.storage._load_from_bytes", b"B\x01\x00\x00\x00x"),
    "a tensor's class by a function": called(
        "torch._tensor._rebuild_from_type_v2", SYSTEM, named("torch.Tensor"), TOUCH + b"\x85", b"}"
    ),
    "an array of objects": called("numpy.dtype", text("O8")),
    "a dtype of fields": called("numpy.dtype", b"]"),
    "a rebuild by another class": called(
        "numpy.core.multiarray._reconstruct", named(f"{MINE}.Settable"), b"K\x00\x85", text("b")
    )
    + b"0N",
    "a hub": called("torch.hub.load", text("somewhere/else"), text("model")),
    "a jit program": called("torch.jit._script.unpackage_script_module", text("x")),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_what_a_file_wants_to_call_is_a_placeholder(here, name):
    zipped("bad.pt", pickled(OBJECTS[name]))
    tree = read_torch(here / "bad.pt")
    assert tree["n"] == 7
    assert repr(tree["bad"]).startswith("<") or tree["bad"] is None
    (here / "old.pt").write_bytes(OLD + b"\x80\x02K\x01.\x80\x02}." + pickled(OBJECTS[name]))
    with open("old.pt", "ab") as file:
        file.write(b"\x80\x02].")
    assert read_torch(here / "old.pt")["n"] == 7
    assert main(["convert", "bad.pt", "bad.jopt"]) == 0
    assert jopt.load("bad.jopt")["n"] == 7


STORAGE = named("torch.FloatStorage")


def storage(kind=STORAGE, name="0", entries=b"K\x02"):
    return b"(" + text("storage") + kind + text(name) + text("cpu") + entries + b"tQ"


def tensor(held, offset=b"K\x00", size=b"K\x02\x85", stride=b"K\x01\x85"):
    view = (held, offset, size, stride, b"\x89", b"}")
    return called("torch._utils._rebuild_tensor_v2", *view)


LONG = b"\x8a\x08" + (2**62).to_bytes(8, "little")
BAD = {
    "a persistent id of text": (b"Pfoo\n", "an opcode that is never data: PERSID"),
    "a persistent id of another kind": (text("x") + b"Q", "a persistent id that is no storage's"),
    "a storage of a function": (storage(SYSTEM), None),
    "a storage by a path": (storage(name="../../etc/passwd"), "it has no record 'data/../../etc"),
    "a storage larger than the file": (storage(entries=LONG), r"a storage of \d+ entries, in 8"),
    "a storage of less than nothing": (storage(entries=b"J\xff\xff\xff\xff"), "a storage of -1"),
    "an extension": (b"\x82\x01", "an opcode that is never data: EXT1"),
    "a buffer from outside": (b"\x97", "an opcode that is never data: NEXT_BUFFER"),
    "no memo": (b"h\x05", "its pickle is damaged"),
    "no stack": (b"0000", "its pickle is damaged"),
    "no mark": (b"t", "its pickle is damaged"),
    "a tuple of nothing": (b"0\x87", "its pickle is damaged"),
    "a call of a number": (b"K\x01)R", "its pickle calls a int"),
    "no arguments": (SYSTEM + b"K\x01R", "calls something with what are no arguments"),
    "append to a tuple": (b")K\x01a", "its pickle appends to a tuple"),
    "an item of a list": (b"]K\x01K\x02s", "its pickle sets an item of a list"),
    "a key that is a list": (b"}]K\x02s", "its pickle is damaged: unhashable type"),
    "attributes of a list": (b"]}b", "its pickle sets attributes of a list"),
    "getattr of data": (called("builtins.getattr", b"]", text("append")), "an attribute of what"),
    "a codec": (called("_codecs.encode", text("x"), text("rot13")), "bytes of no known encoding"),
    "memory": (called("builtins.bytearray", LONG), "bytes of no known encoding"),
    "a set of a number": (called("builtins.set", b"K\x01"), "a set or a queue of what is no list"),
    "a path of numbers": (called("pathlib.PosixPath", b"K\x01"), "a path of what is no text"),
    "a device": (called("torch.device", text("evil")), "its pickle is damaged"),
    "a size below 0": (called("torch.Size", b"(J\xff\xff\xff\xfft"), "of no possible shape"),
    "a view of no storage": (tensor(b"]"), "a tensor of what is no storage"),
    "a view beyond the end": (tensor(storage(), offset=b"K\x01"), r"beyond the end of its storage"),
    "a view far beyond": (tensor(storage(), size=LONG + b"\x85"), r"beyond the end of its storage"),
    "a view before the start": (tensor(storage(), b"J\xff\xff\xff\xff"), "of no possible shape"),
    "strides below 0": (tensor(storage(), stride=b"J\xff\xff\xff\xff\x85"), "no possible shape"),
    "endless copies": (
        tensor(storage(), size=LONG + b"\x85", stride=b"K\x00\x85"),
        "a storage of 2",
    ),
    "an array without bytes": (
        called("numpy._core.multiarray._reconstruct", named("numpy.ndarray"), b"K\x00\x85", b"N")
        + b"(K\x01"
        + LONG
        + b"\x85"
        + called("numpy.dtype", text("f8"))
        + b"\x89"
        + b"C\x01xtb",
        r"an array of shape \(\d+,\) with 1 bytes",
    ),
    "a sparse tensor beyond its shape": (
        called(
            "torch._utils._rebuild_sparse_tensor",
            called("torch.serialization._get_layout", text("torch.sparse_coo")),
            b"(" + tensor(storage()) + tensor(storage()) + b"K\x01\x85t",
        ),
        "its pickle is damaged",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_data_at_all_is_an_error(here, name):
    fragment, problem = BAD[name]
    zipped("bad.pt", pickled(fragment), data__0=bytes(8))
    if problem is None:
        assert isinstance(read_torch(here / "bad.pt")["bad"], Placeholder)
        return
    with pytest.raises(jopt.CheckpointError, match=f"found:    .*{problem}"):
        read_torch(here / "bad.pt")
    with pytest.raises(jopt.CheckpointError):
        read_checkpoint("bad.pt")


def test_what_is_read_is_what_is_there(here):
    zipped("good.pt", pickled(tensor(storage())), data__0=bytes.fromhex("0000803f00000040"))
    assert read_torch(here / "good.pt")["bad"].tolist() == [1.0, 2.0]


ENDLESS = {
    "a list in itself": b"]q\x00h\x00a",
    "a dict in itself": b"}q\x00K\x01h\x00s",
    "a hundred thousand lists": b"]" * 100_000 + b"a" * 99_999,
    "lists of the same list": b"]q\x00"
    + b"".join(b"0](" + bytes((ord("h"), i)) * 10 + b"eq" + bytes([i + 1]) for i in range(30)),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_containers_end(here, capsys, monkeypatch, name):
    monkeypatch.setattr(torch_file, "ENTRIES", 10_000)
    zipped("bad.pt", pickled(ENDLESS[name]))
    assert main(["convert", "bad.pt", "bad.jopt"]) == 2
    assert "containers within containers without end" in capsys.readouterr().err
    with pytest.raises(jopt.CheckpointError, match="there is nothing here that jopt knows"):
        read_checkpoint("bad.pt")


def damaged(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))


def test_archives_that_are_not_torch_s(here):
    good = pickled(tensor(storage()))
    zipped("squeezed.pt", good, zipfile.ZIP_DEFLATED, data__0=bytes(8))
    zipped("program.pt", good, constants__pkl=b"", data__0=bytes(8))
    with zipfile.ZipFile("program.pt", "a") as file:
        file.writestr("archive/constants.pkl", b"")
    zipped("two.pt", good, data__0=bytes(8))
    with zipfile.ZipFile("two.pt", "a") as file:
        file.writestr("other/data.pkl", good)
    with zipfile.ZipFile("none.pt", "w") as file:
        file.writestr("a.npy", b"x")
    torch.save({"w": torch.arange(9.0)}, "flipped.pt")
    at = (here / "flipped.pt").read_bytes().index(torch.arange(9.0).numpy().tobytes())
    damaged(here / "flipped.pt", lambda data: data.__setitem__(at + 3, data[at + 3] ^ 1))
    for name, problem in {
        "squeezed.pt": "its records are compressed",
        "program.pt": "a TorchScript program, not data",
        "two.pt": "a zip archive, and none of torch.save",
        "none.pt": "a zip archive, and none of torch.save",
        "flipped.pt": "its record 'data/0' is not as its checksum says",
    }.items():
        with pytest.raises(jopt.CheckpointError, match=re.escape(problem)):
            read_torch(here / name)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_every_byte_changed(here, options):
    """Any damage is an error of jopt's, or leaves a tree that can be walked."""
    layer = torch.nn.Linear(2, 1)
    torch.save({"model": layer.state_dict(), "step": 3}, "whole.pt", **options)
    whole = (here / "whole.pt").read_bytes()
    for at in range(0, min(len(whole), 1500), 5):
        for bits in (0x01, 0x80):
            data = bytearray(whole)
            data[at] ^= bits
            (here / "bent.pt").write_bytes(bytes(data))
            with suppress(jopt.CheckpointError):
                repr(read_torch(here / "bent.pt"))
