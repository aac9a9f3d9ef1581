"""Schedulers in the forms of older torch, which pickled functions by name."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR
from torch.optim.swa_utils import SWALR

import jopt
from jopt.interop.torch import import_momentum_schedule, import_scheduler, read_checkpoint


class OneCycle:
    """As in torch before 1.13: the function is a method, and so is pickled with its object."""

    def __init__(self, name):
        self.anneal_func = getattr(self, name)

    def _annealing_cos(self):
        raise AssertionError

    def _annealing_linear(self):
        raise AssertionError

    def _triangular2_scale_fn(self):
        raise AssertionError


def read(parts):
    """What is in the file: the functions are names by then."""
    file = io.BytesIO()
    torch.save(parts, file)
    file.seek(0)
    from jopt.interop.torchfiles.pickles import archive

    return read_checkpoint(archive.read(file))


def driven(cls, steps, **kwargs):
    p = torch.nn.Parameter(torch.zeros(1))
    p.grad = torch.ones(1)
    optimizer = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    driver = cls(optimizer, **kwargs)
    rows = []
    for t in range(steps):
        group = optimizer.param_groups[0]
        rows.append((group["lr"], group["momentum"]))
        if t == 4:
            saved = driver.state_dict(), optimizer.state_dict()
        optimizer.step()
        if t < steps - 1:
            driver.step()
    return *saved, np.array(rows)


def follows(schedule, want):
    got = np.asarray(schedule(jnp.arange(len(want))))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


FUNCTIONS = {
    "a method": lambda name: OneCycle(name).anneal_func,
    "a static method": lambda name: getattr(OneCycleLR, name),
}


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("phases", [True, False])
@pytest.mark.usefixtures("x64")
def test_one_cycle(strategy, function, phases):
    given = {"max_lr": 0.4, "total_steps": 12, "pct_start": 0.4, "anneal_strategy": strategy}
    state, optimizer, rows = driven(OneCycleLR, 12, **given)
    del state["_anneal_func_type"]
    state["anneal_func"] = FUNCTIONS[function](f"_annealing_{strategy}")
    if not phases:  # before 1.8
        del state["_schedule_phases"]
        up = float(given["pct_start"] * 12) - 1
        state |= {"step_size_up": up, "step_size_down": float(12 - up) - 1}
    run = read({"optimizer": optimizer, "scheduler": state})
    more = {"param_groups": run.optimizers[0]}
    follows(import_scheduler("OneCycleLR", run.schedulers[0], **more), rows[:, 0])
    follows(import_momentum_schedule("OneCycleLR", run.schedulers[0], **more), rows[:, 1])
    follows(import_scheduler("OneCycleLR", state, **more), rows[:, 0])  # as torch itself reads it


def test_a_cycle_that_does_not_say_how(x64):
    state, optimizer, rows = driven(OneCycleLR, 12, max_lr=0.4, total_steps=12)
    del state["_anneal_func_type"]
    more = {"param_groups": optimizer}
    with pytest.raises(jopt.ConfigError, match="Give anneal_strategy= as torch was given"):
        import_scheduler("OneCycleLR", state, **more)
    follows(import_scheduler("OneCycleLR", state, anneal_strategy="cos", **more), rows[:, 0])
    with pytest.raises(jopt.JoptError):  # the rate is not torch's
        import_scheduler("OneCycleLR", state, anneal_strategy="linear", **more)


@pytest.mark.parametrize("name", ["_triangular2_scale_fn", "other"])
def test_cyclic(name, x64):
    given = {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3, "mode": "triangular2"}
    state, optimizer, rows = driven(CyclicLR, 14, **given)
    state = {k: v for k, v in state.items() if k != "_scale_fn_custom"}
    state["scale_fn"] = OneCycle("_triangular2_scale_fn").anneal_func if name != "other" else np.sin
    run = read({"optimizer": optimizer, "scheduler": state})
    if name == "other":
        with pytest.raises(jopt.ConfigError, match="torch does not save functions"):
            import_scheduler("CyclicLR", run.schedulers[0])
        return
    follows(import_scheduler("CyclicLR", run.schedulers[0]), rows[:, 0])
    follows(import_momentum_schedule("CyclicLR", run.schedulers[0]), rows[:, 1])


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_swa(strategy, x64):
    given = {"swa_lr": 0.02, "anneal_epochs": 6, "anneal_strategy": strategy}
    state, optimizer, rows = driven(SWALR, 10, **given)
    del state["_anneal_strategy"]
    state["anneal_func"] = getattr(SWALR, f"_{'cosine' if strategy == 'cos' else 'linear'}_anneal")
    run = read({"optimizer": optimizer, "scheduler": state})
    more = {"param_groups": run.optimizers[0]}
    follows(import_scheduler("SWALR", run.schedulers[0], **more), rows[:, 0])


def test_numbers_of_numpy_in_a_state(x64):
    """Schedulers that were driven by NumPy's numbers have them in their state."""
    state, optimizer, rows = driven(OneCycleLR, 12, max_lr=np.float64(0.4), total_steps=12)
    state["_last_lr"] = [np.float64(x) for x in state["_last_lr"]]
    run = read({"optimizer": optimizer, "scheduler": state, "best": np.float32(0.5)})
    more = {"param_groups": run.optimizers[0]}
    follows(import_scheduler("OneCycleLR", run.schedulers[0], **more), rows[:, 0])
