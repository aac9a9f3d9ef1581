"""What stands beside the tensors in people's files: plain data comes over, the rest is a name."""

import argparse
import collections
import datetime
import decimal
import enum
import functools
import io
import pathlib
import pickle
import random
import re
import sys
import types
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
import torch

import jopt
from jopt.interop.torch import Placeholder, read_checkpoint
from jopt.interop.torchfiles.pickles import archive
from jopt.interop.torchfiles.pickles.placeholder import Name


class Mode(enum.Enum):
    SLOW = "slow"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class TrainingArguments:
    lr: float
    weights: torch.Tensor
    where: pathlib.Path


class Config(dict):
    def __init__(self, *args):
        raise AssertionError


class Rows(list):
    pass


WEIGHTS = torch.arange(6.0).reshape(2, 3)
FORMATS = {
    "zip": {},
    "before 1.6": {"_use_new_zipfile_serialization": False},
    "protocol 3": {"pickle_protocol": 3},
    "protocol 5": {"pickle_protocol": 5},
}


def through(value, **options):
    file = io.BytesIO()
    torch.save({"weights": WEIGHTS, "value": value, "again": value}, file, **options)
    file.seek(0)
    tree = archive.read(file)
    assert torch.equal(tree["weights"], WEIGHTS)
    assert tree["again"] is tree["value"] or tree["again"] == tree["value"]
    return tree["value"]


EQUAL = {
    "numpy float64": np.float64(0.1),
    "numpy float32": np.float32(0.1),
    "numpy int": np.int64(-3),
    "numpy bool": np.bool_(True),
    "numpy complex": np.complex64(1 + 2j),
    "numpy text": np.str_("word"),
    "array": np.arange(6.0).reshape(2, 3),
    "turned array": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "array of the other order": np.arange(3, dtype=">f8"),
    "empty array": np.zeros((0, 3), np.float32),
    "array without axes": np.array(2.5),
    "array of text": np.array(["a", "bcd"]),
    "array of bfloat16": np.ones(3, ml_dtypes.bfloat16),
    "random state of numpy": np.random.RandomState(0).get_state(),
    "random state of a generator": np.random.default_rng(0).bit_generator.state,
    "random state of Python": random.Random(0).getstate(),
    "random state of torch": torch.Generator().manual_seed(0).get_state(),
    "ordered": collections.OrderedDict(a=1, b=2),
    "counter": collections.Counter("aab"),
    "bytes": b"\x00\xff",
    "more bytes": bytearray(b"\x00\xff"),
    "set": {1, 2},
    "frozen set": frozenset({1, 2}),
    "complex": 1 + 2j,
    "large number": -(2**70),
    "dtype": torch.bfloat16,
    "device": torch.device("cuda:1"),
    "size": torch.Size([2, 3]),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "half": torch.ones(3, dtype=torch.float16),
    "complex tensor": torch.tensor([1 + 2j]).conj(),
    "expanded tensor": torch.ones(1).expand(4),
    "keys of callbacks": {"EarlyStopping{'monitor': 'loss', 'mode': 'min'}": {"best": 1.0}},
    "keys of many kinds": {1: 2, (1, "a"): 3, None: 4, 2.5: 5, False: 6},
}


def same(a, b):
    if isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(b, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(b, tuple | list):
        return type(a) is type(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_plain_data_is_itself(options):
    for name, value in EQUAL.items():
        assert same(through(value, **options), value), name


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_what_becomes_something_plainer(options):
    default = collections.defaultdict(list, {"loss": [1.0]})
    space = argparse.Namespace(lr=0.1, where=pathlib.PurePosixPath("a/b"))
    for value, want in (
        (default, {"loss": [1.0]}),
        (collections.deque([1, 2], maxlen=3), [1, 2]),
        (space, {"lr": 0.1, "where": "a/b"}),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (pathlib.PureWindowsPath("c:/x"), "c:\\x"),
        (pathlib.Path("/data/x"), "/data/x"),
    ):
        assert through(value, **options) == want


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_objects_are_placeholders_and_what_is_in_them_is_read(options):
    here = __name__
    args = through(TrainingArguments(0.1, torch.ones(2), pathlib.Path("x")), **options)
    assert type(args) is Placeholder
    assert repr(args) == f"<{here}.TrainingArguments object, not loaded>"
    assert args.state["lr"] == 0.1
    assert args.state["weights"].tolist() == [1, 1]
    assert args.state["where"] == "x"
    mode = through(Mode.SLOW, **options)
    assert (mode.name, mode.args) == (f"{here}.Mode", ("slow",))
    assert isinstance(through(Rights.READ | Rights.WRITE, **options), Placeholder)
    config = Config.__new__(Config)
    config["layers"] = [torch.ones(1)]
    got = through(config, **options)
    assert (got.name, got.items["layers"][0].item()) == (f"{here}.Config", 1.0)
    assert through(Rows([1, 2]), **options).entries == [1, 2]
    assert through(Mode, **options) == Name(f"{here}.Mode")
    for value, name in (
        (datetime.datetime(2020, 1, 1), "datetime.datetime"),
        (decimal.Decimal("1.5"), "decimal.Decimal"),
        (functools.partial(print, 1), "functools.partial"),
        (np.array([1, "a"], object), "numpy.ndarray"),
        (np.datetime64("2020-01-01"), "numpy.ndarray"),
        (np.random.RandomState(0), "numpy.random._pickle.__randomstate_ctor"),
    ):
        assert through(value, **options).name == name


@pytest.mark.parametrize("old", ["numpy.core", "numpy._core"])
def test_arrays_of_both_names_of_numpy(old):
    value = {"a": np.arange(3.0), "s": np.float32(2)}
    data = pickle.dumps(value, 2)
    data = re.sub(rb"cnumpy\._?core\.", b"c" + old.encode() + b".", data)
    got = archive.unpickled(io.BytesIO(data))
    assert same(got, value)


def test_a_run_with_everything_in_it_goes_on(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.1)
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    before = set(sys.modules)
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "args": TrainingArguments(0.1, torch.ones(2), pathlib.Path("x")),
            "best": np.float64(0.5),
            "epoch": np.int64(3),
            "mode": Mode.SLOW,
            "seen": collections.defaultdict(list),
        },
        tmp_path / "run.ckpt",
    )
    run = read_checkpoint(tmp_path / "run.ckpt")
    assert (run.epoch, run.labels) == (3, ["optimizer"])
    assert "weights_only" not in repr(run)
    params = {k: v.detach().numpy() for k, v in model.named_parameters()}
    state = jopt.interop.torch.import_optimizer(jopt.adamw(0.1), params, run.optimizers[0])
    moment = optimizer.state[model.weight]["exp_avg"].numpy()
    np.testing.assert_array_equal(state["adamw"]["mu"]["weight"], moment)
    assert not {m for m in set(sys.modules) - before if m.startswith("tests")}


def test_a_whole_model_gives_the_weights_of_its_state_dict():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    model.register_buffer("passing", torch.ones(1), persistent=False)
    model.register_buffer("staying", torch.ones(1))
    file = io.BytesIO()
    torch.save({"net": model}, file)
    file.seek(0)
    run = read_checkpoint(archive.read(file))
    want = model.state_dict()
    assert set(run.params) == set(want)
    assert all(torch.equal(run.params[k], v) for k, v in want.items())
