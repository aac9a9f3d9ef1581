"""Parameter groups: which leaf has which hyperparameters, decided by its path."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict, cast

import jax

from jopt.base import ConfigError, Configured, GroupError, configured
from jopt.core.axes import StackAxes
from jopt.core.counts import Skips
from jopt.core.ending import Decay
from jopt.core.kernels import Kernel
from jopt.core.match import Match as Match
from jopt.core.match import Picker as Picker
from jopt.core.match import holds as holds
from jopt.core.match import picked as picked
from jopt.core.match import settled_match
from jopt.core.spec import Spec
from jopt.core.storage import StateDtype
from jopt.core.times import Times
from jopt.core.tree import Layout

DEFAULT = "default"

Labels = tuple[str, ...]
"""The groups of a leaf, in the order in which they were declared; none where no group matches."""


def key_of(labels: Labels) -> str:
    """What a set of groups is called in states and reports: `"head"`, `"head+no_decay"`."""
    return "+".join(labels) or DEFAULT


class Group(Configured):
    """What `jopt.group` returns: which leaves, and what is different about them."""

    def __init__(self, match: Match, freeze: bool, numbers: Mapping[str, Any]) -> None:
        self.match: Any = settled_match("group", "`match`", match)
        if not isinstance(freeze, bool) or not isinstance(numbers, Mapping):
            raise ConfigError(
                "group",
                "a Group is what jopt.group makes",
                expected="jopt.group(match, learning_rate=...) or jopt.group(match, freeze=True)",
                found=f"Group({match!r}, {freeze!r}, {numbers!r})"[:200],
            )
        if freeze and numbers:
            raise ConfigError(
                "group",
                "a frozen group has no hyperparameters",
                found=", ".join(sorted(map(str, numbers))),
                fix="Drop them, or drop freeze=True.",
            )
        self.freeze = freeze
        self.numbers: dict[str, Any] = dict(numbers)


Groups = Mapping[str, Group] | None
"""Parameter groups by name, see `jopt.group`."""


class Common(TypedDict, total=False):
    """What every optimizer and gradient transform takes beside its own arguments.

    - `groups`: `{name: jopt.group(...)}`: other numbers for some leaves, or none at all.
    - `state_dtype`: how slots are stored: `None` as computed, in at least float32; `"bfloat16"`;
      or `"int8"`, codes of eight bits in blocks of 256, each with a scale. The rule computes as
      before, and moves the parameters by what it computed, before that is rounded. Slots of
      fewer than 4096 entries stay as computed, as do those that their optimizer cannot round.
      `{"mu": "bfloat16"}` says so of single slots; the others stay as computed.
    - `kernel`: what runs a step of 8-bit slots: `"xla"`, or `"pallas"`: on CUDA devices one
      kernel a parameter, which spares a quarter of the memory traffic or more. It is for arrays
      that are whole on one device, or inside `jax.shard_map`, and for optimizers that treat
      each entry alone. Other devices, and parameters that are not of whole blocks, run as with
      `"xla"`.
    - `skips`: which leaves may have no gradient at some steps (`None`): all (`True`), or those
      that a pattern or predicate selects, as in `jopt.group`. An optimizer that counts steps
      keeps a count of its own for each of them; one that does not takes `None` anywhere.
    - `axes`: `{pattern: axes}`: how leaves hold their tensors, where they are not one tensor as
      they are: `"layer ..."` for layers along the first axis, `"layer i o"`, `"d (heads k)"`; see
      the page on groups. What looks at more than one entry (a norm, a factored moment) then
      looks at one tensor; what treats each entry alone needs no `axes`.

    A field here is an argument of every factory and door: of its signature, its `config` and
    its checks. `Annotated` gives the default where that is not `None`.
    """

    groups: Groups
    state_dtype: StateDtype
    kernel: Annotated[Kernel, "xla"]
    skips: Skips
    axes: StackAxes


class Steps(Common, total=False):
    """What every optimizer takes beside its own arguments: `jopt.Common`, and

    - `maximize`: ascend: the gradient changes sign, before decay is added to it; decay still
      shrinks the parameter.
    """

    maximize: Annotated[bool, False]


class Coupled(Steps, total=False):
    """What optimizers take whose weight decay is coupled by default: `jopt.Steps`, and

    - `decoupled`: where weight decay enters. `False`: in the gradient, g + λ·p, before all else.
      `True`: in the step, p·(1 − η·λ) − η·d. `"independent"`: in the step, without the learning
      rate, p·(1 − λ) − η·d (Wortsman et al., 2023), so that a schedule for η leaves it alone.
    """

    decoupled: Annotated[Decay, False]


class Decoupled(Steps, total=False):
    """What optimizers take whose weight decay is decoupled by default.

    The same as `jopt.Coupled`, with `decoupled=True` where nothing is said.
    """

    decoupled: Annotated[Decay, True]


class Decaying(Steps, total=False):
    """What optimizers take whose weight decay has a place of its own.

    The same as `jopt.Coupled`, with `decoupled=None`, the optimizer's own place, where nothing is
    said.
    """

    decoupled: Annotated[Decay | None, None]


SHARED = frozenset({**Common.__annotations__, **Coupled.__annotations__})
"""The names of all arguments that are no optimizer's own."""


def parted(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Coupled]:
    """The optimizer's own numbers, and what it has in common with all others."""
    common = {k: v for k, v in arguments.items() if k in SHARED}
    return {k: v for k, v in arguments.items() if k not in SHARED}, cast(Coupled, common)


@configured("jopt.")
def group(match: Match, *, freeze: bool = False, **hyperparameters: Any) -> Group:
    """A parameter group, for the `groups=` argument of every optimizer.

    **Arguments:**

    - `match`: a regular expression, compiled or not, searched in the leaf's path
      (`"encoder/layers/0/bias"`; a `/` within a key is `~1`, a `~` is `~0`); a predicate of
      that path, or of it and the leaf's `jax.ShapeDtypeStruct`; or a tree of bools like the
      parameters', in which one bool may stand for a whole subtree. All of them see paths and
      shapes, never values, so the choice is the same at every step and after every restore.
    - `freeze`: the leaves get a zero update and no state.
    - `**hyperparameters`: the group's own numbers or schedules, or `jopt.times(factor)`, so many
      times what the leaf would otherwise have; all others it inherits from the `"default"` group,
      also when those are edited later.

    A leaf may be in several groups, as long as they do not set one number to two values. It is
    frozen if one of them freezes it.

    **Raises:** `ConfigError` for a pattern that does not compile, or a frozen group with
    hyperparameters. When the optimizer meets the parameters: `GroupError` for a pattern
    that matches no leaf, and for a leaf that two groups give two values of one number.

    >>> group(r"(bias|scale)$", weight_decay=0.0)
    jopt.group(match='(bias|scale)$', weight_decay=0.0)
    """
    return Group(match, freeze, hyperparameters)


def switched(spec: Spec, numbers: Mapping[str, Any], groups: Groups) -> dict[str, Any]:
    """The numbers that are on: without those that the user has switched off.

    Off by default is `False`: what injects numbers takes that for a choice, not for a number.
    """
    named = groups.values() if isinstance(groups, Mapping) else ()
    of_groups = {
        name
        for g in named
        if isinstance(g, Group)
        for name, value in g.numbers.items()
        if not isinstance(value, Times)  # so many times what is off is off
    }
    on = dict(numbers)
    for hyper in spec.hypers:
        value = on.get(hyper.name)
        zero = value is False or (type(value) in (int, float) and value == 0)
        if hyper.optional == "zero" and zero and hyper.name in on:
            on[hyper.name] = 0.0 if hyper.name in of_groups else None
        if hyper.optional and hyper.name in on and on[hyper.name] is None:
            del on[hyper.name]
    for hyper in spec.hypers:
        if hyper.beside and hyper.beside not in on:
            on.pop(hyper.name, None)
    return on


def check_groups(who: str, groups: Groups) -> dict[str, Group]:
    """`groups` as a plain dict, or an error that says what is wrong with it."""
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise ConfigError(
            who, "groups= takes a dict", expected="{name: jopt.group(...)}", found=repr(groups)
        )
    for name, value in groups.items():
        if name == DEFAULT or not isinstance(name, str) or not name:
            raise ConfigError(
                who,
                f"a group cannot be called {name!r}",
                fix=f"{DEFAULT!r} is every leaf that no group matches; pick another name.",
            )
        if not isinstance(value, Group):
            raise ConfigError(
                who, f"group {name!r} is no group", expected="jopt.group(...)", found=repr(value)
            )
    return dict(groups)


def assign(
    who: str, groups: Mapping[str, Group], layout: Layout, leaves: Sequence[Any]
) -> tuple[Labels, ...]:
    """The groups of each leaf; none where no group matches.

    A frozen leaf may be `None` where an update has no parameters. Of no leaves there is nothing
    to say: a pattern may match none then.
    """
    if not groups or not leaves or layout.stands_for_all:
        return ((),) * len(layout)
    known = [layout.shapes[i] if x is None else x for i, x in enumerate(leaves)]
    shapes = tuple((tuple(x.shape), x.dtype) for x in known)
    matches = tuple((label, g.match) for label, g in groups.items())
    return _assign(who, matches, layout.names, shapes)


def alone(who: str, names: Sequence[str], labels: Sequence[Labels]) -> tuple[str, ...]:
    """The one label of each leaf; `GroupError` for a leaf with two."""
    for name, held in zip(names, labels, strict=True):
        if len(held) > 1:
            raise GroupError(
                who,
                f"{held[0]!r} and {held[1]!r} both match one leaf",
                path=name,
                fix=f"Narrow one pattern: a leaf has one {who}.",
            )
    return tuple(held[0] if held else DEFAULT for held in labels)


@functools.lru_cache(maxsize=256)
def _assign(
    who: str,
    matches: tuple[tuple[str, Match], ...],
    names: tuple[str, ...],
    shapes: tuple[tuple[tuple[int, ...], Any], ...],
) -> tuple[Labels, ...]:
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    mine = {label: picked(who, match, names, leaves) for label, match in matches}
    for label, match in matches:
        if not any(mine[label]):
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise GroupError(
                who,
                f"group {label!r} matches no leaf",
                expected=f"a leaf that {match!r} matches",
                found=f"leaves {shown}",
                fix="Patterns are searched in the whole path; fix it or drop the group.",
            )
    return tuple(tuple(label for label, has in mine.items() if has[i]) for i in range(len(names)))
