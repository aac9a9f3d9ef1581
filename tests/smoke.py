"""What most users call, once, with nothing installed but what `jopt` itself needs.

Run as `python -m tests.smoke`, under the oldest jax that `pyproject.toml` allows as well as under
the newest. Whether the numbers are right the tests ask; here they have to be finite, to survive a
file to the bit, and to go on from there as they would have.
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jopt

PARAMS = {
    "dense": {"kernel": jnp.linspace(-1.0, 1.0, 64).reshape(8, 8), "bias": jnp.full(8, 0.1)},
    "scale": jnp.ones(()),
}
TRANSFORMS = {
    "sgd": jopt.sgd(0.01, momentum=0.9, nesterov=True),
    "adam": jopt.adam(1e-2, amsgrad=True),
    "adamw": jopt.adamw(1e-2, groups={"flat": jopt.group("bias|scale", weight_decay=0.0)}),
    "nadam": jopt.nadam(1e-2),
    "radam": jopt.radam(1e-2),
    "adamax": jopt.adamax(1e-2),
    "adadelta": jopt.adadelta(1.0),
    "adagrad": jopt.adagrad(1e-2),
    "adafactor": jopt.adafactor(1e-2),
    "asgd": jopt.asgd(1e-2),
    "rmsprop": jopt.rmsprop(1e-3),
    "rprop": jopt.rprop(1e-3),
    "lbfgs": jopt.lbfgs(0.1),
    "lion": jopt.lion(1e-3),
    "prodigy": jopt.prodigy(),
    "muon": jopt.recipes.muon_adamw(0.02),
    "soap": jopt.soap(1e-3),
    "in 8 bits": jopt.adamw(1e-2, state_dtype="int8"),
    "clipped": jopt.chain(
        jopt.clip_by_global_norm(1.0), jopt.adamw(jopt.schedules.cosine(1e-2, steps=10))
    ),
    "in rounds": jopt.accumulate(jopt.adamw(1e-2), every=2),
    "averaged": jopt.ema(jopt.adamw(1e-2), decay=0.99),
    "skipping": jopt.skip_nonfinite(jopt.adamw(1e-2)),
}


def loss(params):
    """Of a layer that should give the number of its row."""
    rows = jnp.tanh(params["dense"]["kernel"]) @ jnp.arange(8.0) + params["dense"]["bias"]
    return jnp.mean((params["scale"] * rows - jnp.arange(8.0)) ** 2)


def steps(tx, params, state, count):
    """So many updates, in one program."""

    @jax.jit
    def one(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return jopt.apply_updates(params, updates), state

    for _ in range(count):
        params, state = one(params, state)
    return params, state


def same(found, want):
    """Whether two trees are equal to the bit."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def tried(name, tx):
    """Two steps, a file, two more; the same without the file."""
    params, state = steps(tx, PARAMS, tx.init(PARAMS), 2)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(params)), name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jopt"
        jopt.save(path, {"params": params, "state": state}, tx=tx)
        read = jopt.load(path, like={"params": params, "state": state}, tx=tx)
    assert same(read, {"params": params, "state": state}), name
    ends = [steps(tx, *pair, 2) for pair in ((params, state), (read["params"], read["state"]))]
    assert same(*ends), name


def edited():
    """A number changed in a running state, a leaf that joins, and a fit to convergence."""
    tx = TRANSFORMS["adamw"]
    state = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=0.5)
    (numbers,) = jopt.hyperparams(state).values()
    assert {float(group["learning_rate"]) for group in numbers.values()} == {0.5}
    more = {**PARAMS, "late": jnp.zeros(3)}
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, more), tx.extend(state, more), more)
    assert jax.tree.structure(updates) == jax.tree.structure(more)
    found = jopt.minimize(lambda x: jnp.sum((x - jnp.arange(3.0)) ** 2), jnp.zeros(3))
    assert jnp.allclose(found.params, jnp.arange(3.0), atol=1e-4)


def main():
    """Try all, and say under which jax."""
    for name, tx in TRANSFORMS.items():
        tried(name, tx)
    edited()
    sys.stdout.write(f"{len(TRANSFORMS)} transforms under jax {jax.__version__}\n")


if __name__ == "__main__":
    main()
