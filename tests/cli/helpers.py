"""What the tests of the command line share: one run saved, and a command run in process."""

import json

import jax
import jax.numpy as jnp

import jopt
from jopt.cli import main


def transform(**options):
    groups = {"no_decay": jopt.group(r"(b|scale)$", weight_decay=0.0)}
    rate = jopt.schedules.cosine(1e-3, 100)
    return jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(rate, groups=groups, **options))


def run_of(tx, steps=3):
    """Parameters, state and Python values after some steps."""
    params = {
        "dense": {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(4, jnp.bfloat16)},
        "scale": jnp.float32(0.5),
    }
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = jopt.apply_updates(params, updates)
    return {"params": params, "state": state, "step": steps, "name": "first", "extra": {}}


def jopt_command(capsys, *words):
    """The exit code, and what was printed on both outputs."""
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def report_of(capsys, *words, code=0):
    """What `--json` prints, as data; it has to be JSON by the letter."""
    found, out, err = jopt_command(capsys, *words, "--json")
    assert (found, err) == (code, "")
    return json.loads(out, parse_constant=lambda name: _refuse(name))


def _refuse(name):
    raise AssertionError(f"{name} is no JSON")
