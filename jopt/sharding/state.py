"""The sharding of a whole state, the same split over data-parallel replicas, a state born in it."""

from __future__ import annotations

import functools
from typing import Any, cast

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jopt.base import ConfigError, TreeError
from jopt.core import State, Transform
from jopt.core.boxes import put_on, taken_off
from jopt.core.places import Place
from jopt.core.transform import check_transform
from jopt.core.tree import Tree, layout_of
from jopt.sharding.mesh import along, param_shardings, split


def state_sharding(
    tx: Transform, params: Tree, mesh: Mesh | None = None, *, state: State | None = None
) -> Tree:
    """A `NamedSharding` for every array of the state of `tx`, told from the parameters'.

    A slot like its parameter is sharded like it; a row or column slot along the axes it shares
    with it; of other shapes the trailing axes that equal the parameter's. Counts, numbers and
    whatever no parameter owns are replicated. Nothing is computed: shapes are enough.

    **Arguments:**

    - `tx`: a jopt transform. Of foreign parts, an array whose path ends with a parameter's
      path and that has its shape is sharded like it; all others are replicated.
    - `params`: arrays, or `jax.ShapeDtypeStruct`s with a sharding. A leaf on no mesh
      is split as flax's box around it says, and without one counts as replicated.
    - `mesh`: where to, if no parameter says it. It also gives the devices to shardings that
      name their mesh without them, as those out of `jax.eval_shape`.
    - `state`: the state to place, or its shapes; by default a fresh one. One that has lived
      through steps in which some leaves had no gradient counts these apart.

    **Returns:** a tree like the state, for `jax.device_put`, `out_shardings` and the like.

    **Raises:** `TreeError` if no parameter is on a mesh and none is given, or they are on
    several; `ConfigError` if `tx` is no jopt transform.

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
    >>> sharding = jax.NamedSharding(mesh, jax.P(None, "model"))
    >>> params = {"w": jax.device_put(jnp.ones((4, 8)), sharding)}
    >>> found = jopt.sharding.state_sharding(jopt.adamw(1e-3), params)["adamw"]
    >>> found["mu"]["w"].spec, found["count"].spec
    (P(None, 'model'), P())
    """
    return _placed("state_sharding", tx, params, mesh, state)


def init(
    tx: Transform, params: Tree, shardings: Tree | None = None, *, mesh: Mesh | None = None
) -> State:
    """`tx.init(params)`, every array born on the devices where it will live.

    Nothing passes through the host, and no device ever holds more than its own shard.

    **Arguments:**

    - `tx`, `params`, `mesh`: as for `state_sharding`. From `jax.ShapeDtypeStruct`s the state
      can be had before the parameters are.
    - `shardings`: where each array goes; by default `state_sharding(tx, params, mesh)`.

    **Raises:** as `state_sharding`; `TreeError` for `shardings` that are none or not like the
    state, and for shapes alone where the first state depends on the parameters' values.

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> params = {"w": jax.device_put(jnp.ones(4), jax.NamedSharding(mesh, jax.P("data")))}
    >>> jopt.sharding.init(jopt.adamw(1e-3), params)["adamw"]["mu"]["w"].sharding.spec
    P('data',)
    """
    who = "sharding.init"
    check_transform(who, tx)
    layout, leaves = tx.layout(params)
    params = layout.treedef.unflatten(leaves)
    if shardings is None:
        shardings = _placed(who, tx, params, mesh)
    else:
        _check_shardings(who, jax.eval_shape(tx.init, params), shardings)
    make = functools.partial(jax.jit, out_shardings=shardings)
    if not any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params)):
        return cast(State, make(tx.init)(params))
    if _reads_values(tx, params):
        raise TreeError(
            "sharding.init",
            f"the first state of {tx.name} depends on the parameters' values",
            expected="arrays",
            found="shapes",
            fix="Give the parameters themselves; state_sharding is content with shapes.",
        )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    return cast(State, make(lambda: tx.init(shapes))())


def _check_shardings(who: str, state: State, shardings: Tree) -> None:
    """Raise `TreeError` unless this is a sharding, or a tree of them over the whole state."""

    def fits(x: Any) -> bool:
        return isinstance(x, jax.sharding.Sharding) or x is None

    named = zip(layout_of(who, shardings).names, jax.tree.leaves(shardings), strict=True)
    odd = [(name, x) for name, x in named if not fits(x)]
    if not odd:
        try:  # one may stand for all that is below it
            jax.tree.map(lambda *_: None, shardings, state, is_leaf=fits)
            return
        except (ValueError, TypeError):
            pass  # told below
    raise TreeError(
        who,
        "shardings= is no tree of shardings like the state",
        path=odd[0][0] if odd else None,
        expected="a jax.sharding.Sharding, or what state_sharding(tx, params) gives",
        found=repr(odd[0][1] if odd else shardings)[:200],
    )


def _resting(who: str, sharding: NamedSharding, memory: str) -> NamedSharding:
    try:
        return sharding.with_memory_kind(memory)
    except ValueError as error:
        known = sharding.mesh.devices.flat[0].addressable_memories()
        raise ConfigError(
            who,
            "the devices have no such memory",
            expected=", ".join(repr(m.kind) for m in known),
            found=repr(memory),
        ) from error


def _straddled(who: str, path: str, axis: int, length: int, grain: int) -> TreeError:
    return TreeError(
        who,
        "a shard would end inside a block of the 8-bit state",
        path=path,
        expected=f"a multiple of {grain} entries of axis {axis} on each device",
        found=f"{length} entries",
        fix="Shard another axis, or this one in fewer parts; or take state_dtype='bfloat16'.",
    )


def _reads_values(tx: Transform, params: Tree) -> bool:
    jaxpr = jax.make_jaxpr(tx.init)(params).jaxpr
    read = {id(x) for eqn in jaxpr.eqns for x in eqn.invars} | {id(x) for x in jaxpr.outvars}
    return any(id(x) in read for x in jaxpr.invars)


def zero1(
    tx: Transform,
    params: Tree,
    axis: str,
    mesh: Mesh | None = None,
    *,
    state: State | None = None,
) -> Tree:
    """`state_sharding`, with the arrays that belong to parameters also split over `axis`.

    Data-parallel replicas hold equal parameters, so they need not all hold equal slots: each
    keeps one part, updates that part of the parameters, and gets the rest from the others.
    `axis` goes on the first dimension that it divides and that no mesh axis splits yet. Where
    there is none, or the parameter is split over `axis` already, the array stays as it was.

    **Arguments:**

    - `tx`, `params`, `mesh`, `state`: as for `state_sharding`.
    - `axis`: the name of the mesh axis over which the parameters are replicated.

    **Raises:** as `state_sharding`; `ConfigError` if the mesh has no such axis.

    Source: Rajbhandari et al., 2020, section 5.1 (P_os).

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> params = {"w": jax.device_put(jnp.ones((4, 8)), jax.NamedSharding(mesh, jax.P()))}
    >>> jopt.sharding.zero1(jopt.adamw(1e-3), params, "data")["adamw"]["mu"]["w"].spec
    P('data', None)
    """
    if axis is None:
        raise ConfigError("zero1", "axis is a mesh axis", expected="its name", found="None")
    return _placed("zero1", tx, params, mesh, state, axis)


def offload(
    tx: Transform,
    params: Tree,
    mesh: Mesh | None = None,
    *,
    axis: str | None = None,
    memory: str = "pinned_host",
) -> Tree:
    """`state_sharding`, with the arrays that belong to parameters in the host's memory.

    There the state rests between steps. A step brings in a leaf's slots when it is that leaf's
    turn, and puts the new ones back: on the device is at any time what two or three leaves have.
    Rules that see all leaves or many matrices at once (L-BFGS, Muon, SOAP) have all of theirs
    there, also those of `owned`.

    **Arguments:**

    - `tx`, `params`, `mesh`: as for `state_sharding`.
    - `axis`: a mesh axis to split it over as well, as `zero1` does.
    - `memory`: the kind of memory, as the devices call it.

    Give the result to `jopt.sharding.init` and as `out_shardings` to the jitted step.

    **Raises:** as `state_sharding`; `ConfigError` for a kind of memory that the devices lack.

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> params = {"w": jax.device_put(jnp.ones((4, 8)), jax.NamedSharding(mesh, jax.P()))}
    >>> found = jopt.sharding.offload(jopt.adamw(1e-3), params)["adamw"]
    >>> found["mu"]["w"].memory_kind
    'pinned_host'
    """
    if not isinstance(memory, str):
        raise ConfigError("offload", "memory is a kind of memory", found=repr(memory)[:200])
    return _placed("offload", tx, params, mesh, axis=axis, memory=memory)


def _placed(
    who: str,
    tx: Transform,
    params: Tree,
    mesh: Mesh | None,
    state: State | None = None,
    axis: str | None = None,
    memory: str | None = None,
) -> Tree:
    check_transform(who, tx)
    layout, leaves = tx.layout(params)
    params = layout.treedef.unflatten(leaves)
    mesh, shardings = param_shardings(who, layout, leaves, mesh)
    if axis is not None and not (isinstance(axis, str) and axis in mesh.shape):
        raise ConfigError(
            who,
            f"the mesh has no axis {axis!r}",
            expected=", ".join(map(repr, mesh.shape)),
            found=repr(axis),
        )

    def one(x: Any, place: Place) -> NamedSharding:
        if place.index is None:
            stack = NamedSharding(mesh, PartitionSpec(*filter(None, [place.over])))
            return stack if memory is None or not place.over else _resting(who, stack, memory)
        shape, of = tuple(x.shape), tuple(leaves[place.index].shape)
        try:
            own = along(shardings[place.index], place, shape, of)
        except ValueError as error:
            raise _straddled(who, layout.names[place.index], *error.args) from None
        own = own if axis is None else split(own, axis, shape, place)
        return own if memory is None else _resting(who, own, memory)

    abstract, boxes = taken_off(jax.eval_shape(tx.init, params) if state is None else state)
    tx.check_labels(abstract)
    places = {k: part.places(layout, leaves, abstract[k]) for k, part in tx.parts.items()}
    try:
        return put_on(jax.tree.map(one, abstract, places), boxes)
    except (TreeError, ConfigError):
        raise
    except ValueError as error:
        raise TreeError(
            who,
            "the state is not of these parameters",
            expected="state= from tx.init(params)",
            found=str(error).partition("\n")[0][:200],
        ) from None
