"""Schedules and parameter groups of the Hugging Face Trainer, which its files do not tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, configured, is_traced
from jopt.interop._given import number, pattern, word, words, wrong
from jopt.schedules import Schedule
from jopt.schedules.shapes import check, check_choice

_NO_DECAY = r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)"


@configured("jopt.interop.torch.")
def huggingface_schedule(
    name: str,
    base_lr: float,
    warmup_steps: int = 0,
    training_steps: int | None = None,
    **kwargs: Any,
) -> Schedule:
    """The schedule of the Trainer's `lr_scheduler_type`.

    The Trainer's scheduler is a `LambdaLR` whose function no file holds. This is that function,
    from the arguments of the run.

    **Arguments:**

    - `name`: `"linear"`, `"cosine"`, `"cosine_with_restarts"`, `"polynomial"`, `"constant"`,
      `"constant_with_warmup"`, `"inverse_sqrt"`, `"cosine_with_min_lr"`,
      `"cosine_warmup_with_min_lr"` or `"warmup_stable_decay"`.
    - `base_lr`: `TrainingArguments.learning_rate`, which is `base_lrs` in `scheduler.pt`.
    - `warmup_steps`: of the run; of a `warmup_ratio` the Trainer makes
      `ceil(training_steps * warmup_ratio)`.
    - `training_steps`: `max_steps` in `trainer_state.json`. Not for the two constants and for
      `"inverse_sqrt"`.
    - `**kwargs`: `lr_scheduler_kwargs`, with the defaults of transformers: `num_cycles`, `power`,
      `lr_end`, `timescale`, `min_lr`, `min_lr_rate`, `warmup_lr_rate`; for
      `"warmup_stable_decay"` `num_decay_steps`, `num_stable_steps`, `min_lr_ratio`,
      `warmup_type`, `decay_type`.

    **Raises:** `ConfigError` for an unknown name or argument, or one that is missing. For
    `"reduce_lr_on_plateau"` take `import_scheduler("ReduceLROnPlateau", ...)`.

    Source: transformers 5, `optimization.py`.

    >>> rate = huggingface_schedule("linear", 0.1, warmup_steps=2, training_steps=6)
    >>> [round(float(rate(t)), 6) for t in range(7)]
    [0.0, 0.05, 0.1, 0.075, 0.05, 0.025, 0.0]
    """
    who = "huggingface_schedule"
    if not isinstance(name, str) or name not in _SHAPES:
        raise ConfigError(
            who, f"no schedule is called {name!r}", expected=", ".join(sorted(_SHAPES))
        )
    check(who, 0, warmup_steps=warmup_steps)
    base_lr = number(who, "base_lr", base_lr)
    shape, allowed = _SHAPES[name]
    if unknown := set(kwargs) - set(allowed):
        raise ConfigError(
            who,
            f"{name!r} has no argument {min(unknown)!r}",
            expected=", ".join(allowed) or "none",
        )
    for key, value in kwargs.items():
        if key in ("warmup_type", "decay_type"):
            word(who, key, value)
        elif value is not None or allowed[key] is not None:
            kwargs[key] = number(who, key, value)
    if not is_traced(base_lr) and not base_lr and {"lr_end", "min_lr"} & set(allowed):
        raise wrong(who, "base_lr", "what the rate ends as a part of", "a number above 0", base_lr)
    if training_steps is not None or name not in _ENDLESS:
        check(who, training_steps=training_steps)
    # Whole numbers beyond int32 are compared with steps as the floats that steps are.
    w, T = (
        float(n) if isinstance(n, int) and n >= 2**31 else n for n in (warmup_steps, training_steps)
    )
    given = {"base_lr": base_lr, "w": w, "T": T, **allowed, **kwargs}
    factor = shape(who, given)
    return Schedule(lambda t: base_lr * factor(t))


Factor = Callable[[Array], Array]
Shape = Callable[[str, dict[str, Any]], Factor]


def _rising(w: int, after: Factor) -> Factor:
    """A line from 0, then something else."""
    return lambda t: jnp.where(t < w, t / max(1, w), after(t))


def _progress(t: Array, a: dict[str, Any]) -> Array:
    return jnp.asarray((t - a["w"]) / max(1, a["T"] - a["w"]))


def _wave(cycles: float, progress: Array) -> Array:
    return 0.5 * (1.0 + jnp.cos(2.0 * jnp.pi * cycles * progress))


def _constant(who: str, a: dict[str, Any]) -> Factor:
    if a["w"]:
        raise ConfigError(who, "'constant' has no warm-up", fix="Take 'constant_with_warmup'.")
    return jnp.ones_like


def _linear(who: str, a: dict[str, Any]) -> Factor:
    return _rising(a["w"], lambda t: jnp.maximum((a["T"] - t) / max(1, a["T"] - a["w"]), 0.0))


def _cosine(who: str, a: dict[str, Any]) -> Factor:
    low = a.get("min_lr_rate") or 0.0
    if "min_lr" in a:
        low = _lowest(who, a)
    return _rising(
        a["w"],
        lambda t: jnp.maximum(_wave(a["num_cycles"], _progress(t, a)) * (1 - low) + low, 0.0),
    )


def _lowest(who: str, a: dict[str, Any]) -> float:
    if (a["min_lr"] is None) == (a["min_lr_rate"] is None):
        raise ConfigError(who, "needs one of min_lr and min_lr_rate")
    return float(a["min_lr_rate"] if a["min_lr"] is None else a["min_lr"] / a["base_lr"])


def _restarts(who: str, a: dict[str, Any]) -> Factor:
    def fall(t: Array) -> Array:
        x = _progress(t, a)
        part = jnp.mod(a["num_cycles"] * x, 1.0)
        return jnp.where(x >= 1.0, 0.0, 0.5 * (1.0 + jnp.cos(jnp.pi * part)))

    return _rising(a["w"], fall)


def _polynomial(who: str, a: dict[str, Any]) -> Factor:
    low = a["lr_end"] / a["base_lr"]

    def fall(t: Array) -> Array:
        rest = jnp.maximum(1.0 - _progress(t, a), 0.0)
        return jnp.asarray((1.0 - low) * rest ** a["power"] + low)

    return _rising(a["w"], fall)


def _inverse_sqrt(who: str, a: dict[str, Any]) -> Factor:
    scale = a["timescale"] or a["w"] or 10_000
    return _rising(a["w"], lambda t: jnp.sqrt(scale / (scale + jnp.maximum(t - a["w"], 0))))


def _warm_min(who: str, a: dict[str, Any]) -> Factor:
    low, warm, w = _lowest(who, a), a["warmup_lr_rate"], a["w"]

    def value(t: Array) -> Array:
        slow = warm is not None
        rise = warm + (1.0 - warm) * t / max(1, w - 1) if slow else (t + 1.0) / max(1.0, w)
        fall = _wave(a["num_cycles"], (t - w + 1.0) / max(1.0, a["T"] - w)) * (1 - low) + low
        return jnp.where(t < w, rise, jnp.maximum(fall, 0.0))

    return value


def _warmup_stable_decay(who: str, a: dict[str, Any]) -> Factor:
    kinds = ("linear", "cosine", "1-sqrt")
    check_choice(who, "warmup_type", a["warmup_type"], kinds)
    check_choice(who, "decay_type", a["decay_type"], kinds)
    stable, decay, low = a["num_stable_steps"], a["num_decay_steps"], a["min_lr_ratio"]
    if stable is None:
        if a["T"] is None or decay is None:
            raise ConfigError(who, "needs num_decay_steps, and num_stable_steps or training_steps")
        stable = a["T"] - a["w"] - decay
    decay, stable = check(who, 0, num_decay_steps=decay, num_stable_steps=stable)
    still = a["w"] + stable

    def done(kind: str, x: Array, cycles: float) -> Array:
        if kind == "cosine":
            return 0.5 * (1.0 - jnp.cos(2.0 * jnp.pi * cycles * x))
        return x if kind == "linear" else jnp.sqrt(x)

    def value(t: Array) -> Array:
        x = jnp.clip(t / max(1, a["w"]), 0.0, 1.0)
        rising = 1.0 - jnp.sqrt(1.0 - x) if a["warmup_type"] == "1-sqrt" else None
        rise = done(a["warmup_type"], x, 0.5) if rising is None else rising
        gone = jnp.clip((t - still) / max(1, decay), 0.0, 1.0)
        fall = 1.0 - done(a["decay_type"], gone, a["num_cycles"])
        moving = jnp.where(t < a["w"], rise, fall) * (1.0 - low) + low
        flat = (t >= a["w"]) & (t < still)
        over = jnp.where(t < still + decay, jnp.maximum(moving, 0.0), low)
        return jnp.where(flat, 1.0, over)

    return value


_ENDLESS = {"constant", "constant_with_warmup", "inverse_sqrt", "warmup_stable_decay"}
_LOW = {"num_cycles": 0.5, "min_lr": None, "min_lr_rate": None}
_SHAPES: dict[str, tuple[Shape, dict[str, Any]]] = {
    "constant": (_constant, {}),
    "constant_with_warmup": (lambda who, a: _rising(a["w"], jnp.ones_like), {}),
    "cosine": (_cosine, {"num_cycles": 0.5}),
    "cosine_warmup_with_min_lr": (_warm_min, {**_LOW, "warmup_lr_rate": None}),
    "cosine_with_min_lr": (_cosine, _LOW),
    "cosine_with_restarts": (_restarts, {"num_cycles": 1}),
    "inverse_sqrt": (_inverse_sqrt, {"timescale": None}),
    "linear": (_linear, {}),
    "polynomial": (_polynomial, {"lr_end": 1e-7, "power": 1.0}),
    "warmup_stable_decay": (
        _warmup_stable_decay,
        {
            "num_decay_steps": None,
            "num_stable_steps": None,
            "warmup_type": "linear",
            "decay_type": "cosine",
            "min_lr_ratio": 0.0,
            "num_cycles": 0.5,
        },
    ),
}


def huggingface_groups(
    names: Sequence[str], norms: str | None = None
) -> tuple[list[str], list[str]]:
    r"""The names of the Trainer's two parameter groups: those that decay, and the others.

    Its optimizer numbers the parameters in this order: first all of one, then all of the other.

    **Arguments:**

    - `names`: of the trained parameters, in the model's own order:
      `[name for name, p in model.named_parameters() if p.requires_grad]`.
    - `norms`: a regular expression for parameters of `torch.nn.LayerNorm` modules by another
      name, such as `r"\bln_"` for GPT-2: the Trainer knows them by their class.

    Source: transformers 5, `Trainer.get_decay_parameter_names`.

    >>> huggingface_groups(["encoder.weight", "encoder.bias", "LayerNorm.weight", "head.weight"])
    (['encoder.weight', 'head.weight'], ['encoder.bias', 'LayerNorm.weight'])
    """
    names = words("huggingface_groups", "names", names)
    if norms is not None:
        pattern("huggingface_groups", "norms", norms)

    def still(name: str) -> bool:
        own = norms is not None and re.search(norms, name) is not None
        return own or re.search(_NO_DECAY, name.lower()) is not None

    return [n for n in names if not still(n)], [n for n in names if still(n)]
