"""A data-parallel step of ZeRO-1: gradients scattered, parts stepped, parameters gathered.

Left to itself XLA adds gradients up on every device and then takes a part of them. Here each
device makes the gradients of its own examples, and one reduce-scatter a parameter gives it the
mean of the part that it steps; the update is arithmetic on that part; one all-gather a parameter
gives the new parameters back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jopt.base import ConfigError, TreeError
from jopt.core import State, Transform
from jopt.core.apply import step
from jopt.core.places import Place
from jopt.core.transform import check_transform
from jopt.core.tree import Tree, layout_of
from jopt.sharding.mesh import names_in, param_shardings, split
from jopt.sharding.state import zero1

Gradients = Callable[..., tuple[Any, Tree]]
"""`gradients(params, *batch)`: a loss, or what else, and the gradients."""
Step = Callable[..., tuple[Tree, State, Any]]
"""`step(params, state, *batch)`."""


def zero1_step(
    tx: Transform, value_and_grad: Gradients, params: Tree, axis: str, mesh: Mesh | None = None
) -> Step:
    """A jitted training step over data-parallel replicas of which each keeps a part of the state.

    For every parameter that `axis` divides there is one reduce-scatter, of its gradient, and one
    all-gather, of its new value; each device holds and steps a part. One that it does not divide
    costs an all-reduce, and is stepped by all.

    **Arguments:**

    - `tx`: a jopt transform; norms and the like are of whole gradients.
    - `value_and_grad`: `value_and_grad(params, *batch) -> (value, gradients)`, such as
      `jax.value_and_grad(loss)`, for a loss that is a mean over its examples. Each device calls
      it with its own part of the batch; value (with `has_aux` all that stands in it) and
      gradients are averaged.
    - `params`: arrays, or shapes with shardings, replicated over `axis`; other axes of the mesh
      may split them.
    - `axis`: the mesh axis over which examples are split, on the first axis of each array of
      the batch.
    - `mesh`: as for `state_sharding`.

    **Returns:** `step(params, state, *batch) -> (params, state, value)`. Parameters and state are
    donated, and come out placed as they went in: as `params` and as `zero1(tx, params, axis)`.

    **Raises:** as `zero1`; `TreeError` for a parameter that is split over `axis`.

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> params = {"w": jax.device_put(jnp.ones(4), jax.NamedSharding(mesh, jax.P()))}
    >>> batch = jax.device_put(jnp.ones((2, 4)), jax.NamedSharding(mesh, jax.P("data")))
    >>> tx = jopt.sgd(0.5)
    >>> state = jopt.sharding.init(tx, params, jopt.sharding.zero1(tx, params, "data"))
    >>> run = jax.value_and_grad(lambda p, x: jnp.mean(x @ p["w"]))
    >>> step = jopt.sharding.zero1_step(tx, run, params, "data")
    >>> params, state, value = step(params, state, batch)
    >>> params["w"], value
    (Array([0.5, 0.5, 0.5, 0.5], dtype=float32), Array(4., dtype=float32))
    """
    who = "zero1_step"
    check_transform(who, tx)
    if not callable(value_and_grad):
        raise ConfigError(
            who,
            "value_and_grad is no function",
            expected="jax.value_and_grad(loss)",
            found=repr(value_and_grad)[:100],
        )
    of_state = zero1(tx, params, axis, mesh)
    layout = layout_of(who, params)
    leaves = layout.treedef.flatten_up_to(params)
    mesh, whole = param_shardings(who, layout, leaves, mesh)
    parts = []
    for name, x, own in zip(layout.names, leaves, whole, strict=True):
        part = split(own, axis, tuple(x.shape), Place())
        if _at(own, axis) is not None:
            raise TreeError(
                who,
                f"a parameter is split over {axis!r}, over which examples are",
                path=name,
                expected=f"one that is replicated over {axis!r}",
                found=own.spec,
            )
        parts.append(part)
    at = [_at(part, axis) for part in parts]
    manual = [PartitionSpec() if i is None else PartitionSpec(*(None,) * i, axis) for i in at]
    size = mesh.shape[axis]

    def own_gradients(params: Tree, batch: Any) -> tuple[Any, list[Array]]:
        # As values that differ, else jax adds the gradients up by itself.
        params = jax.tree.map(lambda p: jax.lax.pcast(p, axis, to="varying"), params)
        value, grads = value_and_grad(params, *batch)
        scattered = []
        for g, i in zip(layout.treedef.flatten_up_to(grads), at, strict=True):
            if i is None:
                scattered.append(jax.lax.pmean(g, axis))
            else:
                total = jax.lax.psum_scatter(g, axis, scatter_dimension=i, tiled=True)
                scattered.append(total / jnp.asarray(size, total.dtype))
        return jax.tree.map(lambda x: jax.lax.pmean(x, axis), value), scattered

    def run(params: Tree, state: State, batch: Any) -> tuple[Tree, State, Any]:
        here = jax.sharding.get_abstract_mesh()  # of automatic axes, as in `auto_axes`
        on = mesh if here.empty else here
        value, grads = jax.shard_map(
            own_gradients,
            mesh=on,
            in_specs=(PartitionSpec(), PartitionSpec(axis)),
            out_specs=(PartitionSpec(), manual),
            axis_names={axis},
        )(params, batch)
        own = layout.treedef.unflatten([NamedSharding(on, s.spec) for s in parts])
        mine = jax.lax.with_sharding_constraint(params, own)
        after, state = step(tx, layout.treedef.unflatten(grads), state, mine)
        # Gathered when they are done, not what they are made of.
        return jax.lax.with_sharding_constraint(after, own), state, value

    placed = layout.treedef.unflatten(whole), of_state
    if AxisType.Explicit in mesh.axis_types:
        everywhere = NamedSharding(mesh, PartitionSpec())
        run = jax.sharding.auto_axes(run, out_sharding=(*placed, everywhere))

    def called(params: Tree, state: State, *batch: Any) -> tuple[Tree, State, Any]:
        out: tuple[Tree, State, Any] = run(params, state, batch)
        return out

    jitted: Step = jax.jit(called, out_shardings=(*placed, None), donate_argnums=(0, 1))
    return jitted


def _at(sharding: NamedSharding, axis: str) -> int | None:
    """The dimension that is split over `axis`."""
    return next((i for i, x in enumerate(sharding.spec) if axis in names_in(x)), None)
