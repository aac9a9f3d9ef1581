"""Right values for the arguments that have no default, by name; and what some callables need."""

import inspect
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import jopt
import jopt.interop.orbax
import jopt.interop.safetensors
import jopt.interop.torch as interop
from tests.calls.bent import Made
from tests.calls.things import STATE, TX, P

S = jopt.schedules
MESH = jax.make_mesh((1,), ("data",))
FREE = jopt.schedule_free(jopt.sgd(0.1), 0.1)
AVERAGED = jopt.ema(TX, decay=0.5)
PLACED = jax.tree.map(lambda x: jax.device_put(x, jax.NamedSharding(MESH, jax.P())), P)
WEIGHTS = {"weight": jnp.ones((2, 3)), "bias": jnp.ones(2)}
SPEC = jopt.Spec("made", hypers=(jopt.Hyper("rate", "[0, 1]"),), slots=(jopt.Slot("mu"),))
ROWS = jopt.Spec("rows", hypers=SPEC.hypers, slots=SPEC.slots, sparse="rows")
OPTAX = optax.adam(1e-3)
STEP_LR = torch.optim.lr_scheduler.StepLR(
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), 3
).state_dict()
CYCLIC = torch.optim.lr_scheduler.CyclicLR(
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9), 0.1, 0.2
).state_dict()
ORDER = ["b", "w"]


def rule(g, s, p, h):
    """One of no sense."""
    return -h.rate * g, {"mu": s.mu + g}


def run(g, s, p, h):
    """The same for a matrix."""
    x = yield g
    return -h.rate * x, {"mu": s.mu + g}


def _lists(g, s, p, h):
    return [-h.rate * x for x in g], {"mu": [m + x for m, x in zip(s.mu, g, strict=True)]}


def _fresh(name):
    def make():
        shutil.rmtree(name, ignore_errors=True)
        return name

    return Made(make)


RIGHT = {
    # Transforms, their states, files.
    "tx": TX,
    "params": P,
    "updates": P,
    "state": STATE,
    "like": STATE,
    "tree": STATE,
    "item": STATE,
    "state_dict": jopt.state_dict(STATE),
    "data": jopt.to_bytes(STATE, tx=TX),
    "match": "w",
    "factor": 0.5,
    "max_norm": 1.0,
    "max_value": 1.0,
    "every": 2,
    "step_size": 3,
    "decay": 0.9,
    "learning_rate": 0.1,
    "eta": 0.01,
    "clipping": 0.01,
    "threshold": 1.0,
    "l2_norm_clip": 1.0,
    "noise_multiplier": 1.0,
    "count": 3,
    "f": lambda u: u,
    "max_backtracking_steps": 3,
    "max_linesearch_steps": 3,
    # Schedules.
    "schedule": S.constant(1.0),
    "boundaries": [3],
    "steps": 4,
    "init_value": 1.0,
    "end_value": 0.0,
    "peak_value": 1.0,
    "value": 1.0,
    "total_steps": 9,
    "warmup_steps": 2,
    "stable_steps": 2,
    "decay_steps": 2,
    "gamma": 0.5,
    "milestones": [2],
    "base_value": 0.1,
    "function": lambda t: 1.0 * t,
    "values": [1.0],
    "peak_values": [1.0, 0.5],
    "cycle_steps": [4, 6],
    "swa_value": 0.1,
    "step": 3,
    "condition": lambda step, **extra: step % 2 == 0,
}
"""By the name of the argument."""

OF = {
    "jopt.monitor": {"measures": TX},
    "jopt.apply_updates": {"rounding": "stochastic", "key": jax.random.key(0)},
    "jopt.cautious_decay": {"tx": jopt.adamw(1e-3)},
    "jopt.chain": {"transforms": (TX, optax.sgd(0.1)), "named": {"clip": jopt.clip_by_norm(1.0)}},
    "jopt.Checkpoints": {"folder": "kept", "keep_last": 2, "keep_best": 1, "tx": TX},
    "jopt.checkpoint.differences": {"like": STATE},
    "jopt.cli.main": {"argv": ["inspect", "there.jopt"]},
    "jopt.configured": {"prefix": "mylib.", "torch": {"lr": "rate"}, "shared": jopt.Common},
    "jopt.eval_params": {"state": AVERAGED.init(P)},
    "jopt.find_learning_rate": {"loss": lambda p, *_: jnp.sum(p["w"] ** 2), "steps": 3},
    "jopt.from_bytes": {"like": STATE, "tx": TX},
    "jopt.group": {"hyperparameters": {"learning_rate": 0.1}},
    "jopt.Group": {"freeze": False, "numbers": {"learning_rate": 0.1}},
    "jopt.Hyper": {"name": "rate"},
    "jopt.interop.optax.export_state": {"like": OPTAX.init(P)},
    "jopt.interop.optax.import_state": {"optax_state": OPTAX.init(P), "count": None},
    "jopt.interop.orbax.restore": {"path": "there.orbax", "like": STATE, "tx": TX},
    "jopt.interop.orbax.save": {"path": _fresh("made.orbax")},
    "jopt.interop.safetensors.load": {"path": "there.safetensors", "like": STATE, "tx": TX},
    "jopt.interop.safetensors.save": {"path": "made.safetensors"},
    "jopt.interop.torch.export_schedule_free": {"tx": FREE, "state": FREE.init(P), "names": ORDER},
    "jopt.interop.torch.import_schedule_free": {
        "tx": FREE,
        "state_dict": interop.export_schedule_free(FREE, P, FREE.init(P), ORDER),
        "names": ORDER,
    },
    "jopt.interop.torch.export_optimizer": {"names": ORDER},
    "jopt.interop.torch.export_params": {"params": WEIGHTS},
    "jopt.interop.torch.export_scheduler": {"schedule": S.step(0.1, 3), "count": 2},
    "jopt.interop.torch.flax_weights": {"params": WEIGHTS},
    "jopt.interop.torch.from_state_dict": {
        "name": "Adam",
        "state_dict": interop.export_optimizer(TX, P, STATE, ORDER),
        "names": ORDER,
    },
    "jopt.interop.torch.huggingface_groups": {"names": ["a.weight", "a.bias"]},
    "jopt.interop.torch.huggingface_schedule": {
        "name": "linear",
        "base_lr": 0.1,
        "training_steps": 9,
    },
    "jopt.interop.torch.import_momentum_schedule": {"name": "CyclicLR", "state_dict": CYCLIC},
    "jopt.interop.torch.import_optimizer": {
        "state_dict": interop.export_optimizer(TX, P, STATE, ORDER),
        "names": ORDER,
    },
    "jopt.interop.torch.import_params": {
        "like": WEIGHTS,
        "state_dict": torch.nn.Linear(3, 2).state_dict(),
    },
    "jopt.interop.torch.import_scheduler": {"name": "StepLR", "state_dict": STEP_LR},
    "jopt.interop.torch.momentum_schedule": {
        "name": "CyclicLR",
        "torch_kwargs": {"base_lr": 0.1, "max_lr": 0.2},
    },
    "jopt.interop.torch.optimizer": {"name": "AdamW", "torch_kwargs": {"lr": 0.1}},
    "jopt.interop.torch.read_checkpoint": {
        "source": {"optimizer": interop.export_optimizer(TX, P, STATE, ORDER)}
    },
    "jopt.interop.torch.resumed": {"plateau": S.plateau(0.1), "value": 0.1, "best": 1.0},
    "jopt.interop.torch.scheduler": {
        "name": "StepLR",
        "base_lr": 0.1,
        "torch_kwargs": {"step_size": 3},
    },
    "jopt.interop.torch.Placeholder": {"name": "some.Class"},
    "jopt.interop.torch.Weight": {"name": "weight"},
    "jopt.leafwise": {"spec": SPEC, "rule": rule, "arguments": {"rate": 0.5}},
    "jopt.load": {"path": "there.jopt", "like": STATE, "tx": TX},
    "jopt.matrixwise": {
        "spec": SPEC,
        "rule": run,
        "batch": lambda x, h: x,
        "arguments": {"rate": 0.5},
    },
    "jopt.minimize": {
        "fun": lambda x, *_: jnp.sum(x**2),
        "x0": jnp.ones(2),
        "args": (jnp.ones(1),),
        "max_steps": 3,
    },
    "jopt.plot.run": {"logged": {"loss": [2.0, 1.0]}},
    "jopt.plot.rates": {
        "search": jopt.RateSearch(np.asarray([0.1, 1.0]), np.ones(2), np.ones(2), False)
    },
    "jopt.plot.schedule": {"schedules": S.constant(1.0), "line": {"color": "red"}},
    "jopt.route": {"rest": TX, "routes": {"other": ("w", jopt.sgd(0.1))}},
    "jopt.routing": {"tx": jopt.route(TX, other=("w", jopt.sgd(0.1)))},
    "jopt.row_gradient": {
        "indices": np.asarray([0, 1]),
        "values": np.ones((2, 3), np.float32),
        "like": jnp.ones((4, 3)),
    },
    "jopt.rowwise": {"spec": ROWS, "rule": rule, "arguments": {"rate": 0.5}},
    "jopt.save": {"path": "made.jopt", "tx": TX},
    "jopt.schedules.join": {"schedules": [1.0, 2.0]},
    "jopt.schedules.product": {"schedules": (S.constant(1.0), 2.0)},
    "jopt.schedules.Plateau": {"settings": dict(S.plateau(1.0)._is)},
    "jopt.schedules.Plateau.update": {"memory": S.plateau(1.0).init()},
    "jopt.optimizer": {"spec": SPEC, "rule": rule, "lifted": {}},
    "jopt.set_hyperparams": {"values": {"learning_rate": 0.5}},
    "jopt.sharding.init": {"params": PLACED, "mesh": MESH},
    "jopt.sharding.laid_out": {"params": PLACED, "mesh": MESH},
    "jopt.sharding.owned": {"params": PLACED, "mesh": MESH},
    "jopt.sharding.to_stacks": {"params": PLACED},
    "jopt.sharding.with_layouts": jopt.sharding.laid_out(TX, PLACED, MESH).config,
    "jopt.sharding.state_sharding": {"params": PLACED, "state": STATE, "mesh": MESH},
    "jopt.sharding.offload": {"params": PLACED, "mesh": MESH, "axis": "data"},
    "jopt.sharding.zero1": {"params": PLACED, "axis": "data"},
    "jopt.sharding.zero1_step": {
        "value_and_grad": jax.value_and_grad(lambda p, x: jnp.sum(p["w"])),
        "params": PLACED,
        "axis": "data",
    },
    "jopt.Slot": {"name": "mu"},
    "jopt.Spec": {"name": "made", "hypers": SPEC.hypers, "slots": SPEC.slots},
    "jopt.step": {"rounding": "nearest", "key": jax.random.key(0)},
    "jopt.Transform": {"parts": TX.parts},
    "jopt.testing.check": {
        "params": {"w": jnp.ones(2)},
        "laws": ("pickles",),
        "dtypes": ("float32",),
    },
    "jopt.testing.Law": {
        "name": "made",
        "says": "It holds.",
        "of": (),
        "dtypes": None,
        "holds": lambda subject, dtype: None,
    },
    "jopt.treewise": {"spec": SPEC, "rule": _lists, "arguments": {"rate": 0.5}},
    "jopt.recipes.Layer": {"pattern": r"layer_(\d)", "number": 1, "depth": 2},
    "jopt.recipes.layer_decay": {"pattern": r"layer_(\d)", "decay": 0.9, "depth": 2, "below": "^w"},
}
"""What one callable needs besides, or in place of it."""

SELF = {
    "jopt.Checkpoints": jopt.Checkpoints("kept", keep_last=2, background=False),
    "jopt.Transform": TX,
    "jopt.schedules.Schedule": S.linear(1.0, 0.0, 3),
    "jopt.schedules.Plateau": S.plateau(1.0),
}
"""Whose methods users call."""

REFUSED = {"jopt.schedules.Plateau.__call__"}
"""There to say why they do not work."""

INNER = {"updated", "flow", "boxed", "layout", "check_labels"}
"""Methods that only jopt calls."""


def of(name, f):
    """The right arguments of the callable of this name, but for those that its defaults give."""
    takes = inspect.signature(f).parameters
    needed = {k: v for k, v in RIGHT.items() if k in takes and takes[k].default is takes[k].empty}
    return {**needed, **OF.get(name, {})}


def files():
    """The files that calls read, in the folder where they are made."""
    jopt.save("there.jopt", STATE, tx=TX)
    jopt.interop.safetensors.save("there.safetensors", STATE, tx=TX)
    jopt.interop.orbax.save("there.orbax", STATE, tx=TX)
