"""n steps, save, load in another process, m steps: the same bits as n + m steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jopt
from tests.checkpoint.helpers import assert_same

ROOT = Path(__file__).parents[2]

# One program for all: what is compared differs in nothing but the interruption.
PROGRAM = """
import sys
import jax, jax.numpy as jnp
import jopt
from tests.checkpoint.helpers import grads, params

kind = sys.argv[1]
tx = {
    "chain": lambda: jopt.chain(
        jopt.clip_by_global_norm(1.0),
        jopt.adamw(
            jopt.schedules.cosine(0.1, 8),
            amsgrad=True,
            groups={"no_decay": jopt.group("b$", weight_decay=0.0)},
        ),
    ),
    "sgd": lambda: jopt.sgd(0.1, momentum=0.9, nesterov=True, skips="^scale$"),
}[kind]()

def step(tree, i):
    g = grads(0)
    g = jax.tree.map(lambda x: (x * jnp.sin(i.astype(x.dtype) + 1)).astype(x.dtype), g)
    if kind == "sgd":
        g["scale"] = None  # this leaf sits out
    updates, state = tx.update(g, tree["state"], tree["params"])
    return {"params": jopt.apply_updates(tree["params"], updates), "state": state}

step = jax.jit(step, donate_argnums=0)
for first, last, source, target in zip(*(iter(sys.argv[2:]),) * 4):
    like = {"params": params(), "state": tx.init(params())}
    tree = like if source == "-" else jopt.load(source, {**like, "step": 0}, tx=tx)
    tree.pop("step", None)
    for i in range(int(first), int(last)):
        tree = step(tree, jnp.int32(i))
    jopt.save(target, {**tree, "step": int(last)}, tx=tx)
"""


def run(*arguments):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["chain", "sgd"])
def test_stopping_in_between_changes_no_bit(tmp_path, kind):
    run(kind, 0, 7, "-", tmp_path / "whole", 0, 4, "-", tmp_path / "half")
    run(kind, 4, 7, tmp_path / "half", tmp_path / "resumed")
    whole, resumed = (jopt.load(tmp_path / name) for name in ("whole", "resumed"))
    assert_same(resumed, whole)
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "half").read_bytes() != (tmp_path / "whole").read_bytes()
