"""What belongs to whole matrices, in stacks on the devices that own them."""

from __future__ import annotations

from typing import Any

from jax.sharding import Mesh

from jopt.base import ConfigError
from jopt.core import State, Transform
from jopt.core.dealing import all_opened
from jopt.core.dealt import DealtPart
from jopt.core.spec_parts import spec_parts
from jopt.core.transform import check_transform
from jopt.core.tree import Tree
from jopt.sharding.laid_out import layouts_of, with_layouts


def owned(tx: Transform, params: Tree, mesh: Mesh | None = None) -> Transform:
    """`laid_out`, and what is kept beside whole matrices stays with the devices that own them.

    The moments, factors and bases of SOAP, Shampoo and Kron are needed where a matrix is whole, and
    nowhere else. Split as the parameters are they go there and back at every step; so they are kept
    there, the matrices of a class one below the other in one array for each slot, split over all
    devices. A step then moves a gradient in and a direction out, and no state.

    **Arguments:** as for `laid_out`. Of optimizers that keep nothing of the kind, such as Muon, the
    state is as ever. Slots that `state_dtype` stores in fewer bits stay beside the parameters.

    **Returns:** a transform with the same results. In its state the node of such an optimizer has
    an entry `owned`, `{group: {class: {slot: stack}}}`, and the slots have no arrays for these
    matrices. `state_dict`, files, checkpoints and `extend` have one array a matrix, as without.

    **Raises:** as `state_sharding`.

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1,), ("f",))
    >>> params = {"w": jax.device_put(jnp.ones((4, 8)), jax.NamedSharding(mesh, jax.P("f")))}
    >>> jopt.sharding.owned(jopt.soap(), params).config["owned"]
    True
    """
    return with_layouts(tx, layouts_of("owned", tx, params, mesh), owned=True)


def to_leaves(state: State) -> State:
    """A state without stacks: every slot has one array a parameter, where `owned` had one a class.

    It is the state that the same optimizer has without `owned`.

    **Arguments:** `state`: of any transform; one without stacks stays as it is.

    **Raises:** `ConfigError` for what is no state.

    >>> import jax.numpy as jnp, jopt
    >>> state = jopt.soap().init({"w": jnp.ones((2, 3))})
    >>> jopt.sharding.to_leaves(state)["soap"]["mu"]["w"].shape
    (2, 3)
    """
    if not isinstance(state, dict):
        raise ConfigError(
            "to_leaves", "this is no state", expected="a dict", found=repr(state)[:100]
        )
    found: State = all_opened(state)
    return found


def to_stacks(tx: Transform, state: State, params: Tree) -> State:
    """A state with the stacks that `tx` keeps, the opposite of `to_leaves`.

    So the state of an optimizer without `owned`, or of another mesh, becomes that of one with it.

    **Arguments:** `tx`: what `owned` gave; `state`: one without stacks; `params`: the parameters,
    or their shapes.

    **Raises:** `ConfigError` if `tx` is no transform; `StateError` for another's state.

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1,), ("f",))
    >>> params = {"w": jax.device_put(jnp.ones((4, 8)), jax.NamedSharding(mesh, jax.P("f")))}
    >>> tx = jopt.sharding.owned(jopt.soap(), params)
    >>> state = jopt.sharding.to_stacks(tx, jopt.soap().init(params), params)
    >>> jopt.sharding.to_leaves(state)["soap"]["mu"]["w"].shape
    (4, 8)
    """
    check_transform("to_stacks", tx)
    tx.check_labels(state, params)
    layout, leaves = tx.layout(params)
    new = state
    for here in spec_parts(tx.parts, layout, leaves):
        if isinstance(here.part, DealtPart) and here.part.deals:
            part, of = here.part, (here.layout, here.params)
            keys = here.keys[:1] + tuple(k for key in here.keys[1:] for k in ("inner", key))
            new = _replaced(new, keys, lambda node, p=part, of=of: p.closed(*of, node))
    return new


def _replaced(tree: Any, keys: Any, change: Any) -> Any:
    if not keys:
        return change(tree)
    return {**tree, keys[0]: _replaced(tree[keys[0]], keys[1:], change)}
