"""Sophia: momentum over an estimate of the Hessian's diagonal, clipped entry by entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_one_of
from jopt.core import Decoupled, Hyper, Number, Slot, Spec, Transform, Value, optimizer
from jopt.core.checks import check_count, check_node
from jopt.core.doors import LeafPart
from jopt.core.ending import Ending
from jopt.core.extras_seen import function_seen, leaves_seen
from jopt.core.leaf import Outcome
from jopt.core.one_leaf import view
from jopt.core.transform import Add, Flow, Leaves, Node
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE
from jopt.core.without_params import check_spared
from jopt.numerics import as_complex, debias, drawn, is_complex, once_if, signs
from jopt.numerics.noise import IMPL
from jopt.transforms.noise import KEY, MOST_SEED, check_seed

Estimator = Literal["hutchinson", "gauss_newton_bartlett", "given"]
"""What the diagonal of the Hessian is estimated from, see `jopt.sophia`."""
NEEDS = {"hutchinson": "value_fn", "gauss_newton_bartlett": "sampled_fn", "given": "hessian"}

DIAGONAL = Slot("nu")
SPEC = Spec(
    name="sophia",
    hypers=(
        RATE,
        B1,
        B2,
        EPS,
        Hyper("gamma", "(0, inf)"),
        Hyper("clip_threshold", "(0, inf)", optional=True),
        Hyper("batch_size", "(0, inf)", optional=True),
        Hyper("seed", f"[0, {MOST_SEED}]", scheduled=False, optional=True),
        DECAY,
    ),
    slots=(MU, DIAGONAL, replace(KEY, when=lambda on: on["estimator"] != "given")),
    options={"estimator": None, "update_interval": None, "bias_correction": None},
    extra=lambda on: (NEEDS[on["estimator"]],),
    gives="direction",
    decay="step",
    counts=lambda on: on["bias_correction"],
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """What takes the bias from the momentum."""
    return {"unbiased": 1 / debias(h.b1, h.t)} if h.bias_correction else {}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sophia`; the diagonal is of this step already."""
    mu = h.b1 * s.mu + (1 - h.b1) * g
    d = (h.unbiased * mu if h.bias_correction else mu) / jnp.maximum(h.gamma * s.nu, h.eps)
    if h.clip_threshold is not None:
        d = jnp.clip(d, -h.clip_threshold, h.clip_threshold)
    return d, {"mu": mu, "nu": s.nu}


def renewal(estimate: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """The diagonal with one more estimate in it."""
    size = 1 if h.batch_size is None else h.batch_size
    return estimate, {"nu": h.b2 * s.nu + (1 - h.b2) * (size * estimate)}


class SophiaPart(LeafPart):
    """The rule for each leaf; the diagonal is estimated before, for all leaves at once."""

    def __init__(self, spec: Spec, rule: Any, *more: Any) -> None:
        super().__init__(spec, rule, *more)
        self.seen: tuple[()] = ()  # no leaf's rule reads what only all of them together make use of
        alone = replace(spec, slots=(DIAGONAL,), counts=False, steps=False, gives="update")
        _, options, arguments = self.made_of
        own = {k: v for k, v in arguments.items() if k not in ("maximize", "decoupled", "skips")}
        stored = arguments.get("state_dtype")
        if isinstance(stored, Mapping):
            own["state_dtype"] = {k: v for k, v in stored.items() if k == DIAGONAL.name}
        alone = replace(alone, decay=None, needs_params=True, extra=())
        self.renewal: LeafPart = LeafPart(alone, renewal, None, options, own, Ending())

    def _turn(self, flow: Flow, node: Node, add: Add | None) -> tuple[dict[int, Outcome], Node]:
        if flow.params is None:
            check_spared(self.spec, self.numbers, self.groups)
        check_node(self.name, node, self._entries())
        new = self._renewed(flow, node)
        outcomes, after = super()._turn(flow, {**node, **new}, add)
        return outcomes, {**after, **new}

    def _renewed(self, flow: Flow, node: Node) -> Node:
        """The diagonal, and the key of the next estimate; untouched where none is due."""
        every = self.options["update_interval"]
        held = {k: v for k, v in node.items() if k not in ("mu", "nu", "key", "leaf_count")}

        def renewed(old: Node) -> Node:
            keys = old.get("key", {})
            following = {group: drawn(key)[1] for group, key in keys.items()}
            own = drawn(next(iter(keys.values())))[0] if keys else None
            seen = replace(flow, updates=self._estimate(flow, own), stepped=False)
            _, after = self.renewal._turn(seen, {**held, "nu": old["nu"]}, None)
            return {**({"key": following} if keys else {}), "nu": after["nu"]}

        old = {k: jax.tree.map(jnp.asarray, node[k]) for k in ("key", "nu") if k in node}
        new: Node = once_if(jnp.mod(jnp.asarray(node["count"]), every) == 0, renewed, old)
        return new

    def _estimate(self, flow: Flow, own: Array | None) -> Leaves:
        """An estimate for each leaf that has a gradient."""
        members = [i for i, g in enumerate(flow.updates) if g is not None]
        params = flow.params or []
        estimator, extra = self.options["estimator"], flow.extra
        found: Leaves = [None] * len(params)
        sign = -1 if self.ending.maximize else 1
        if estimator == "given":
            given = leaves_seen(self.name, "hessian", extra["hessian"], members, flow)
            estimates = [x if x is None or sign == 1 else -x for x in given]
        else:
            key = own if extra.get("key") is None else extra["key"]
            function = function_seen(extra[NEEDS[estimator]], members, flow)
            at = [_seen(params[i]) for i in members]
            if estimator == "hutchinson":
                names = [flow.layout.names[i] for i in members]
                along = signs(_typed(key), names, at)
                _, product = jax.jvp(jax.grad(function), (at,), (along,))
                estimates = [sign * u * x for u, x in zip(along, product, strict=True)]
            else:
                slopes = jax.grad(lambda x: function(x, _typed(key)))(at)
                estimates = [jnp.square(x) for x in slopes]
            pairs = [is_complex(params[i].dtype) for i in members]
            estimates = [as_complex(x) if c else x for c, x in zip(pairs, estimates, strict=True)]
        for i, x in zip(members, estimates, strict=True):
            found[i] = x
        return found


def _seen(p: Any) -> Array:
    seen: Array = view(jnp.asarray(p), {}, jnp.asarray(p))[0]
    return seen


def _typed(key: Any) -> Array:
    typed = jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key)
    made: Array = key if typed else jax.random.wrap_key_data(key, impl=IMPL)
    return made


def door(
    spec: Spec, rule: Any, *, prepare: Any, options: Mapping[str, Any], **arguments: Any
) -> Transform:
    """A rule for a leaf, and what it makes of the function of all of them."""
    return Transform({spec.name: SophiaPart(spec, rule, prepare, options, arguments)})


@optimizer(SPEC, rule, door=door, prepare=prepare)
def sophia(
    learning_rate: Value = 1e-4,
    b1: Value = 0.965,
    b2: Value = 0.99,
    *,
    eps: Value = 1e-8,
    gamma: Value = 0.01,
    clip_threshold: Value | None = 1.0,
    update_interval: int = 10,
    estimator: Estimator = "hutchinson",
    batch_size: Value | None = None,
    seed: Number = 0,
    weight_decay: Value = 1e-4,
    bias_correction: bool = False,
    **common: Unpack[Decoupled],
) -> dict[str, Any] | None:
    """Sophia: momentum over the Hessian's diagonal, which is estimated every few steps.

    With η the learning rate, λ the weight decay and c an estimate of the diagonal of ∇²f at p:

        ν ← β₂·ν + (1 − β₂)·c            at step 1, and every k-th after it
        μ ← β₁·μ + (1 − β₁)·g
        p ← p·(1 − η·λ) − η·clip(μ / max(γ·ν, ε), ±ρ)

    The estimate is, with u of random signs, and f̂ the loss on labels drawn from the model:

        c = u·(∇²f·u)                    "hutchinson", Sophia-H
        c = B·(∇f̂)²                      "gauss_newton_bartlett", Sophia-G

    **Arguments** (defaults are optax's; η is the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, which stands for a curvature that is less, or below 0.
    - `gamma`: γ > 0; 0.01 in the paper for Hutchinson's estimator, 0.05 for the other.
    - `clip_threshold`: ρ > 0, 1 in the paper; `None` for no clipping.
    - `update_interval`: k ≥ 1: only then is there anything to estimate.
    - `estimator`: one of the two above, or `"given"`.
    - `batch_size`: B > 0, of "gauss_newton_bartlett" only: how many labels f̂ is the mean over.
    - `seed`: a whole number up to 2²⁴, from which the first key is made; read by `init`.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `bias_correction`: divide μ by 1 − β₁ᵗ, as optax does.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **In `update` and `jopt.step`:** for "hutchinson", `value_fn=` (or `obj_fn=`), the loss as a
    function of the parameters, on this batch; for "gauss_newton_bartlett", `sampled_fn=`, f̂ as a
    function of the parameters and a random key; for "given", `hessian=`, c itself, a tree like the
    parameters, with `None` for no news of a leaf. All leaves, whatever their group, have one
    estimate; leaves without a gradient have none. `key=` may be the key of this step.

    **State:** `mu` and `nu`, like the parameters, in at least float32; but for "given", `key`, two
    uint32 for each group, so that a run that is resumed draws what it would have drawn.

    **Raises:** `ConfigError` for a number out of range, and without the function or tree.

    Source: Liu et al., 2023, "Sophia: a scalable stochastic second-order optimizer for language
    model pre-training", algorithms 1 to 3; there u is normal. optax, as the authors' code, takes
    an estimate in behind the step that it is due at, so that the first step has none.

    >>> import jax, jax.numpy as jnp, jopt
    >>> loss = lambda p: jnp.sum(jnp.array([1.0, 100.0]) * p["w"] ** 2) / 2
    >>> tx = jopt.sophia(0.1, b1=0.0, b2=0.0, gamma=1.0, weight_decay=0.0)
    >>> params = {"w": jnp.array([0.5, 0.5])}
    >>> grads = jax.grad(loss)(params)
    >>> updates, state = tx.update(grads, tx.init(params), params, value_fn=loss)
    >>> updates["w"].round(4)  # a Newton step times 0.1, whatever the curvature
    Array([-0.05, -0.05], dtype=float32)
    """
    if not is_one_of(estimator, *NEEDS):
        raise ConfigError(
            "sophia",
            "there is no such estimator",
            expected=", ".join(map(repr, NEEDS)),
            found=repr(estimator)[:100],
        )
    if (batch_size is not None) != (estimator == "gauss_newton_bartlett"):
        raise ConfigError(
            "sophia",
            "batch_size belongs to the estimator of Gauss, Newton and Bartlett, and to no other",
            expected="estimator='gauss_newton_bartlett' and a batch_size, or neither",
            found=f"estimator={estimator!r}, batch_size={batch_size!r}",
        )
    check_seed("sophia", seed)
    every = {"update_interval": check_count("sophia", "update_interval", update_interval, 1)}
    return every | {"seed": None} if estimator == "given" else every
