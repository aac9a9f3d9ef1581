"""A state as host arrays, and back onto devices."""

from __future__ import annotations

from typing import Any, Literal, overload

from jopt.base import checked
from jopt.checkpoint.compare import Difference, Report
from jopt.checkpoint.fitting import Changes, Keep, Rename, fitted
from jopt.checkpoint.leaves import flatten, kinds_of
from jopt.checkpoint.loading import plan
from jopt.checkpoint.placing import snapshots
from jopt.core.nested import nest
from jopt.core.tree import Tree


def state_dict(tree: Tree) -> dict[str, Any]:
    """A snapshot on the host: nested dicts of NumPy arrays, keyed by strings.

    The arrays are copies: they outlive a donation of `tree`, and may be changed. bfloat16 stays
    bfloat16 (through `ml_dtypes`). Python numbers, strings and `None` stay what they are.

    **Arguments:**

    - `tree`: a state, or any pytree: `{"params": ..., "state": ..., "step": 3}`. Lists, tuples
      and modules become dicts keyed by index or by attribute.

    **Raises:** `CheckpointError` for a leaf that is no data: a typed PRNG key, a function, an
    array that was donated or that spans processes.

    >>> import jax.numpy as jnp, jopt
    >>> jopt.state_dict({"w": jnp.ones(2), "layers": [jnp.zeros(1)]})
    {'layers': {'0': array([0.], dtype=float32)}, 'w': array([1., 1.], dtype=float32)}
    """
    who = "state_dict"
    flat = flatten(who, tree)
    named: dict[str, Any] = nest(sorted(flat), snapshots(who, flat, sorted(flat)))
    return named


@overload
def load_state_dict(
    like: Tree,
    state_dict: Any,
    strict: Literal[True] = True,
    *,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Tree: ...


@overload
def load_state_dict(
    like: Tree,
    state_dict: Any,
    strict: Literal[False],
    *,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> tuple[Tree, Report]: ...


@overload
def load_state_dict(
    like: Tree,
    state_dict: Any,
    strict: bool,
    *,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Tree | tuple[Tree, Report]: ...


@checked
def load_state_dict(
    like: Tree,
    state_dict: Any,
    strict: bool = True,
    *,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Tree | tuple[Tree, Report]:
    """The leaves of a state dict in the containers, dtypes and shardings of `like`.

    Nothing is cast, broadcast or renamed unless asked. What `like` holds as a `jax.Array` or a
    `jax.ShapeDtypeStruct` is placed with its sharding, if it has one, each device getting its
    own part only; what it holds as a NumPy array is a NumPy array. A state may have `leaf_count`
    and `leaf_micro` entries, for leaves that have lived through fewer steps or gradients than
    others, where `like` has none: they are taken.

    The names that patterns meet are paths joined by `/`, `adamw/mu/dense/kernel`, in which a `/`
    within a key is `~1` and a `~` is `~0`. A pattern that matches no leaf is an error.

    **Arguments:**

    - `like`: a tree of the structure wanted: a fresh `tx.init(params)`, or
      `jax.eval_shape(tx.init, params)`.
    - `state_dict`: from `jopt.state_dict`, `jopt.load`, flax, orbax: any tree of arrays.
    - `strict`: if `False`, leaves that do not fit keep the value they have in `like`, and the
      result is a pair: the tree, and a `jopt.checkpoint.Report` of what was taken and what not.
    - `rename`: regular expressions and their replacements, as for `re.sub`, one after the other
      on the name of every leaf of the state: `{"^adamw/": "accumulate/inner/adamw/"}`.
    - `keep`: a regular expression, or several. A leaf of `like` whose name one matches keeps its
      value; a leaf that only the state has is left out, if one matches its (new) name.
    - `cast`: if `True`, numbers take the dtype of `like`, rounded to it: floats become floats,
      integers integers, complex numbers complex. Shapes stay.

    **Raises:** `CheckpointError` that lists every difference: leaves missing, unexpected, of
    another shape or dtype, and numbers that are scheduled on one side only. Also for a pattern
    that matches nothing, two leaves renamed alike, and a number that `cast` cannot hold.

    >>> import jax.numpy as jnp, jopt
    >>> jopt.load_state_dict({"w": jnp.ones(2)}, {"w": jnp.ones(3), "v": jnp.ones(1)})
    Traceback (most recent call last):
      ...
    jopt.base.errors.CheckpointError: load_state_dict: the state does not fit `like`: 2 differences
      unexpected    v: expected nothing, found float32 (1,)
      shape         w: expected (2,), found (3,)
      Nothing was loaded. strict=False takes what fits and keeps the rest of `like`.
    >>> jopt.load_state_dict({"w": jnp.ones(2)}, {"v": jnp.zeros(2)}, rename={"^v$": "w"})
    {'w': Array([0., 0.], dtype=float32)}
    """
    who = "load_state_dict"
    flat = flatten(who, state_dict)
    kinds = kinds_of(who, flat, "the state has leaves that no checkpoint holds")
    made = plan(who, like, kinds, Changes(rename, keep, cast), strict=strict)
    # Copies, so that a later change of the state dict, or a donation, reaches nothing here.
    copies = zip(made.goes, snapshots(who, flat, made.goes), strict=True)
    return made.loaded(who, copies)


@checked
def differences(
    like: Tree,
    state_dict: Any,
    *,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> list[Difference]:
    """What `load_state_dict` would complain of, given the same; empty if it fits.

    >>> import jax.numpy as jnp, jopt
    >>> [found] = jopt.checkpoint.differences({"w": jnp.ones(2)}, {"w": jnp.ones(3)})
    >>> found.problem, found.path, found.expected, found.found
    ('shape', ('w',), '(2,)', '(3,)')
    """
    who = "differences"
    kinds = kinds_of(who, flatten(who, state_dict))
    return fitted(who, like, kinds, Changes(rename, keep, cast)).found
