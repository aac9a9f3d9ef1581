"""How far to go along what an optimizer has added up, found as the run goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Hyper, Number, Slot, Spec, Transform, Value
from jopt.core.chain import unused_label
from jopt.core.checks import check_count
from jopt.core.doors import TreePart
from jopt.core.extras import TREES
from jopt.core.spec import Options, Shape
from jopt.core.transform import Add, Flow, Leaves, Node, Part
from jopt.core.tree import Layout, match_leaves
from jopt.core.wrap import WrapperPart
from jopt.numerics import Dot, Norm, cast, together


def _rates(shape: Shape, options: Options) -> Shape:
    return (options["num_betas"],)


SPEC = Spec(
    name="mechanize",
    hypers=(
        Hyper("weight_decay", "[0, inf)"),
        Hyper("eps", "(0, inf)"),
        Hyper("s_init", "(0, inf)", scheduled=False),
    ),
    slots=(
        # What was added up is the distance to it, a small difference.
        Slot("start", init=lambda p: p, compress=False),
        Slot("reward", shape=_rates, scope="group"),
        Slot("largest", shape=_rates, scope="group"),
        Slot("squares", shape=_rates, scope="group"),
        Slot("scale", shape=_rates, init="s_init", scope="group"),
    ),
    options={"num_betas": None},
    optional=("grad",),
    steps=False,
    needs_params=True,
)


def rule(u: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `mechanize`."""
    dtype, n = h.eps.dtype, h.num_betas
    scale, largest = cast(s.scale, dtype), cast(s.largest, dtype)
    total = jnp.sum(scale)
    back = 1 / (total + h.eps)
    way = [cast(back, x.dtype) * (x - x0) for x, x0 in zip(p, s.start, strict=True)]
    (of_g, met), (of_p, far), down, out = together(
        Norm(h.grad), Norm(p), Dot(h.grad, way), Dot(p, way), bare=True
    )
    met, far, down, out = (cast(x, dtype) for x in (met / of_g, far / of_p, down, out))
    decay = h.weight_decay * total * met / (far + h.eps)
    product = down + decay * out

    beta = 1 - 0.1 ** jnp.arange(1, n + 1, dtype=dtype)
    bounded = jnp.clip(product, -largest, largest)
    largest = jnp.maximum(beta * largest, jnp.abs(product) + h.eps)
    squares = jnp.square(beta) * cast(s.squares, dtype) + jnp.square(product)
    reward = beta * cast(s.reward, dtype) - bounded * scale
    wealth = h.s_init / n * largest + jnp.maximum(reward, 0)
    scale = wealth / (jnp.sqrt(squares) + h.eps)

    far = jnp.sum(scale)
    steps = [
        x0 + cast(far, x.dtype) * (d + v) - x
        for x0, d, v, x in zip(s.start, way, u, p, strict=True)
    ]
    numbers = {"reward": reward, "largest": largest, "squares": squares, "scale": scale}
    return steps, {"start": s.start, **numbers}


class TunerPart(TreePart):
    """The rule, for the leaves that have a gradient; the others stay where they are."""

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """See `mechanize`."""
        grads = match_leaves(self.name, TREES["grad"], flow.layout, flow.extra["grad"])
        here = [u if g is not None else None for u, g in zip(flow.updates, grads, strict=True)]
        after, new = super().update(replace(flow, updates=here), node)
        updates = zip(after.updates, flow.updates, strict=True)
        return replace(after, updates=[u if v is None else v for v, u in updates]), new

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """As `update`."""
        return Part.step(self, flow, node, add)


class MechanizePart(WrapperPart):
    """The wrapped parts, and behind them the rule, which sees the gradient that went in."""

    keeps = False

    def __init__(self, name: str, tx: Any, tuner: TunerPart) -> None:
        super().__init__(name, tx)
        self.inner: dict[str, Any] = {**self.inner, unused_label(name, self.inner): tuner}

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """Nothing: the rule has a node of its own."""
        return {}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """One step of all."""
        self.check_own(node)
        after, inner = self.inner_update(_told(flow), node["inner"])
        return replace(after, extra=flow.extra), {"inner": inner}

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """The same, and the parameters with the updates added."""
        self.check_own(node)
        leaves, inner = self.inner_step(_told(flow), node["inner"], add)
        return leaves, {"inner": inner}


def _told(flow: Flow) -> Flow:
    return replace(flow, extra={**flow.extra, "grad": flow.tree(flow.updates)})


@configured("jopt.")
def mechanize(
    tx: Any,
    *,
    weight_decay: Value = 1e-2,
    eps: Value = 1e-8,
    s_init: Number = 1e-6,
    num_betas: int = 6,
) -> Transform:
    """Find out how far to go along what `tx` adds up: a learning rate for any optimizer.

    With u the update of `tx`, whose learning rate is 1 or a schedule with that for its peak, x₀
    the parameters at the start, all leaves as one vector, and s, r, m and v rows of numbers, one
    for each of β = 0.9, 0.99, ..., that are all added up in Σs:

        Δ ← (p − x₀) / (Σs + ε)
        h ← ⟨Δ, g + λ·Σs·‖g‖ / (‖p‖ + ε)·p⟩
        r ← β·r − s·min(max(h, −m), m)
        m ← max(β·m, |h| + ε)
        v ← β²·v + h²
        s ← (m·s₀ / n + max(r, 0)) / (√v + ε)
        p ← x₀ + Σs·(Δ + u)

    g is the gradient as it comes to `mechanize`: put clipping in front, or inside for u alone. A
    step that `tx` does not take is none here, and of several micro-batches g is the mean.

    **Arguments** (defaults are optax's, which are the authors'):

    - `tx`: any transform whose updates are the steps.
    - `weight_decay`: λ ≥ 0, which pulls towards 0 and has nothing to do with decay in `tx`.
    - `eps`: ε > 0.
    - `s_init`: s₀ > 0, where each s starts. Read when the state is made.
    - `num_betas`: n ≥ 1.

    **State:** `{"mechanize": {"inner": {...}}}`: that of `tx`, and under `mechanize` `start`, x₀,
    like the parameters, never compressed, and the rows `scale`, s, `reward`, r, `largest`, m, and
    `squares`, v.

    **Raises:** `ConfigError` for a number out of range, or a schedule for `s_init`.

    Source: Cutkosky, Defazio and Mehta, 2023, "Mechanic: a learning rate tuner", algorithm 1, as
    the authors have it in optax: h within ±m, and r below 0 remembered, where the paper and their
    code for torch make it 0.

    >>> import jax, jax.numpy as jnp, jopt
    >>> tx, params = jopt.mechanize(jopt.sgd(1.0)), {"w": jnp.float32(1.0)}
    >>> state = tx.init(params)
    >>> step = jax.jit(lambda params, state: jopt.step(tx, params, state, params))
    >>> for _ in range(100):
    ...     params, state = step(params, state)
    >>> bool(abs(params["w"]) < 0.1)
    True
    """
    rates = check_count("mechanize", "num_betas", num_betas, 1, of="rates")
    numbers = {"weight_decay": weight_decay, "eps": eps, "s_init": s_init}
    tuner = TunerPart(SPEC, rule, None, {"num_betas": rates}, numbers)
    return Transform({"mechanize": MechanizePart("mechanize", tx, tuner)})
