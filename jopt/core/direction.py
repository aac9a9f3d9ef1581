"""What an optimizer points along, as a gradient transform."""

from __future__ import annotations

from dataclasses import replace

from jopt.base import ConfigError, configured
from jopt.core.flow import Part
from jopt.core.part import SpecPart
from jopt.core.transform import Transform, check_transform

STEP = ("learning_rate", "weight_decay")


@configured("jopt.")
def direction(tx: Transform) -> Transform:
    """The direction d of an optimizer, before learning rate and weight decay; ascending as d is.

    What optax calls `scale_by_adam` is `jopt.direction(jopt.adam())`, and so for every optimizer
    that has a direction. State and labels are the optimizer's own, without `learning_rate` and
    `weight_decay`: what those were makes no difference.

    **Arguments:** `tx`: an optimizer, or a chain or wrapper with one.

    **Raises:** `ConfigError` for an optimizer whose step is its own, such as `rprop` or `lbfgs`,
    and where there is none; for stages that act on the step (`jopt.hyperball`, `cautious_decay`).
    Others (`jopt.cautious`, ...) are part of the direction.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.chain(
    ...     jopt.direction(jopt.adam()),
    ...     jopt.add_decayed_weights(0.1),
    ...     jopt.scale_by_learning_rate(0.01),
    ... )
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(updates["w"]), 4)
    -0.011
    """
    check_transform("direction", tx)
    found: list[str] = []

    def bare(part: Part) -> Part:
        if not (isinstance(part, SpecPart) and part.spec.steps):
            return part
        spec = part.spec
        found.append(spec.name)
        if spec.gives != "direction":
            raise ConfigError(
                "direction",
                f"the step of {spec.name} is its own: no learning rate multiplies a direction",
                found=repr(tx),
            )
        for stage in part.ending.stages:
            if stage.decay or stage.parameter:
                raise ConfigError(
                    "direction",
                    f"{stage.name} acts on the step of {spec.name}, and a direction is none",
                    found=repr(tx),
                    fix=f"Drop jopt.{stage.name}.",
                )
        hypers = tuple(h for h in spec.hypers if h.name not in STEP)
        by = spec.params_by and tuple(name for name in spec.params_by if name not in STEP)
        alone = replace(
            spec,
            hypers=hypers,
            params_by=by,
            steps=False,
            needs_params=spec.needs_params or spec.params_by is None,
            gives="update",
            decay=None,
            torch=None,
        )
        return part.remade(alone, replace(part.ending, gives="update", decay=None))

    parts = {label: part.altered(bare) for label, part in tx.parts.items()}
    if not found:
        raise ConfigError("direction", "there is no optimizer here", found=repr(tx))
    return Transform(parts)
