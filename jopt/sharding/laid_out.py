"""A transform that is told how the parameters lie, for meshes of automatic axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from jopt.base import ConfigError, configured
from jopt.core import Transform
from jopt.core.matrixwise import MatrixPart
from jopt.core.transform import Part, check_transform
from jopt.core.tree import Tree
from jopt.sharding.mesh import param_shardings


@dataclass(frozen=True, repr=False)
class Layouts:
    """How parameters lie: the mesh, and by name the sharding of each.

    Two are equal if their meshes are, whatever the devices; pickled, they leave these behind.
    """

    axes: AbstractMesh
    specs: tuple[tuple[str, PartitionSpec], ...]
    mesh: Mesh | AbstractMesh = field(compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Layouts, (self.axes, self.specs, self.axes)

    def __repr__(self) -> str:
        return f"<Layouts of {len(self.specs)} parameters on {dict(self.axes.shape)}>"


def laid_out(tx: Transform, params: Tree, mesh: Mesh | None = None) -> Transform:
    """`tx`, told how the parameters lie: what shares work among devices then goes by it.

    Within `jax.jit` the type of an array on a mesh of automatic axes does not say how it is split.
    Most optimizers need not know, since the compiler does. Those that work on whole matrices
    (`jopt.muon`) do: told, they give each device whole matrices by one exchange, as they do on
    explicit axes with nothing said. Not told, they leave it to the compiler, which may make every
    device work on all matrices.

    **Arguments:**

    - `tx`: any transform; those that it is made of are told, too.
    - `params`, `mesh`: as for `state_sharding`. What jit is given must lie so: it is moved there
      otherwise.

    **Returns:** a transform with the same state and the same results.

    **Raises:** as `state_sharding`.

    >>> import jax, jax.numpy as jnp, jopt
    >>> mesh = jax.make_mesh((1,), ("f",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> params = {"w": jax.device_put(jnp.ones((4, 8)), jax.NamedSharding(mesh, jax.P("f")))}
    >>> jopt.sharding.laid_out(jopt.muon(0.02), params).config["layouts"]
    <Layouts of 1 parameters on {'f': 1}>
    """
    return with_layouts(tx, layouts_of("laid_out", tx, params, mesh))


def layouts_of(who: str, tx: Transform, params: Tree, mesh: Mesh | None) -> Layouts:
    """How the parameters lie."""
    check_transform(who, tx)
    layout, leaves = tx.layout(params)
    found, shardings = param_shardings(who, layout, leaves, mesh)
    specs = tuple(zip(layout.names, (s.spec for s in shardings), strict=True))
    return Layouts(found.abstract_mesh, specs, found)


@configured("jopt.sharding.")
def with_layouts(tx: Transform, layouts: Layouts, *, owned: bool = False) -> Transform:
    """See `laid_out` and `owned`, which make the `Layouts`."""
    check_transform("with_layouts", tx)
    if not isinstance(layouts, Layouts):
        raise ConfigError(
            "with_layouts", "these are no layouts", expected="Layouts", found=repr(layouts)[:100]
        )
    told = {name: NamedSharding(layouts.mesh, spec) for name, spec in layouts.specs}

    def change(part: Part) -> Part:
        return part.laid_out(told, deals=owned) if isinstance(part, MatrixPart) else part

    return Transform({label: part.altered(change) for label, part in tx.parts.items()})
