"""An Optuna study over one compiled training step: no trial compiles anything.

A trial's hyperparameters are numbers in the optimizer's state, which `jopt.set_hyperparams`
writes; the program that trains is the same for all. Optuna's pruner stops trials that fall
behind. The data are handwritten digits, which come with scikit-learn.

    python examples/optuna_study.py
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optuna
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jopt


class Compilations:
    """Counts the programs that jax compiles, whoever asks for them."""

    def __init__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event, seconds, **details):
        self.count += event == "/jax/core/compile/backend_compile_duration"


def load_data():
    """Images in [0, 1] as rows of 64, and labels; a fifth of them held out."""
    images, labels = load_digits(return_X_y=True)
    x, x_out, y, y_out = train_test_split(
        images.astype(np.float32) / 16, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return (jnp.asarray(x), jnp.asarray(y)), (jnp.asarray(x_out), jnp.asarray(y_out))


def start(seed, hidden=32):
    """A network of one hidden layer."""
    one, two = jax.random.split(jax.random.key(seed))
    return {
        "hidden": {
            "kernel": jax.random.normal(one, (64, hidden)) * np.sqrt(2 / 64),
            "bias": jnp.zeros(hidden),
        },
        "head": {
            "kernel": jax.random.normal(two, (hidden, 10)) * np.sqrt(1 / hidden),
            "bias": jnp.zeros(10),
        },
    }


def loss_of(params, x, y):
    """Cross-entropy."""
    x = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    scores = jax.nn.log_softmax(x @ params["head"]["kernel"] + params["head"]["bias"])
    return -jnp.mean(jnp.sum(jax.nn.one_hot(y, 10) * scores, axis=-1))


def make_epoch(tx, data, held_out):
    """A compiled epoch: parameters, state and the order of the data to the next, and a loss."""
    x, y = data

    def step(carry, rows):
        params, state = carry
        grads = jax.grad(loss_of)(params, x[rows], y[rows])
        updates, state = tx.update(grads, state, params)
        return (jopt.apply_updates(params, updates), state), None

    @jax.jit
    def epoch(params, state, order):
        (params, state), _ = jax.lax.scan(step, (params, state), order)
        return params, state, loss_of(params, *held_out)

    return epoch


def main(argv=None):
    """Parse the options, run the study, print its best trials."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)

    data, held_out = load_data()
    params, count, size = start(options.seed), len(data[0]), options.batch_size
    tx = jopt.adamw()
    fresh, epoch = tx.init(params), make_epoch(tx, data, held_out)
    compilations, compiled = Compilations(), []

    def objective(trial):
        state = jopt.set_hyperparams(
            fresh,
            learning_rate=trial.suggest_float("learning_rate", 1e-5, 1.0, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
            b1=trial.suggest_float("b1", 0.5, 0.99),
        )
        mine, rng = params, np.random.default_rng(options.seed)
        try:
            for number in range(options.epochs):
                order = rng.permutation(count)[: count // size * size].reshape(-1, size)
                mine, state, loss = epoch(mine, state, order)
                trial.report(float(loss), number)
                if trial.should_prune():
                    raise optuna.TrialPruned
        finally:
            compiled.append(compilations.count)
        return float(loss)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    study.optimize(objective, options.trials)
    assert epoch._cache_size() == 1, "a trial has compiled the epoch anew"

    table = Table("trial", "learning rate", "weight decay", "b1", "held-out loss")
    for column in table.columns:
        column.justify = "right"
    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    for t in sorted(done, key=lambda t: t.value)[:8]:
        rate, decay, b1 = (t.params[name] for name in ("learning_rate", "weight_decay", "b1"))
        table.add_row(str(t.number), f"{rate:.2e}", f"{decay:.2e}", f"{b1:.3f}", f"{t.value:.4f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(done)} of {len(study.trials)} trials were trained to the end")
    first, rest = compiled[0], compiled[-1] - compiled[0]
    console.print(f"programs compiled: {first} by the first trial, {rest} by all others")


if __name__ == "__main__":
    main()
