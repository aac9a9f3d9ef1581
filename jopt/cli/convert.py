"""`jopt convert`: the same tree in another format."""

from __future__ import annotations

import argparse
import os

from jopt.base import CheckpointError, printable
from jopt.checkpoint.config import describe
from jopt.checkpoint.fetching import host
from jopt.checkpoint.leaves import flatten, kinds_of
from jopt.cli import state
from jopt.cli.arguments import add_common
from jopt.cli.formats import FORMATS, Format, Recorded, format_of
from jopt.cli.output import write, write_json
from jopt.cli.sources import opened
from jopt.core.nested import nest
from jopt.core.tree import Tree
from jopt.tables.text import leaves, size

SHOWN = 10
"""Lines about objects that are no data; a trainer's file has two or three."""

SUMMARY = "write the tree of a file in another format"

EXAMPLES = """\
examples:
  jopt convert run.jopt run.safetensors
  jopt convert model.pt model.jopt
  jopt convert run.msgpack run.ckpt --to jopt --force
  jopt convert run.jopt folder --to orbax
  jopt convert adamw.pt state.jopt --optimizer AdamW --params model.jopt
  jopt convert gan.ckpt state.jopt --optimizer Adam --params gen.jopt --which gen

formats: jopt (.jopt), flax (.msgpack, .flax), safetensors (.safetensors), torch (.pt, .pth),
orbax (.orbax, a folder). What is read is known by its content, the folders of torch's trainers
too. Names, shapes, dtypes and values stay; what the new format cannot hold is an error, and then
nothing is written.

exit codes: 0 it is written, 2 an error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("file", metavar="FROM", help="the file or folder to read")
    parser.add_argument("target", metavar="TO", help="the file or folder to write")
    add_common(parser, json=True, source=True)
    parser.add_argument(
        "--to", choices=FORMATS, metavar="FORMAT", help="format of what is written; else by suffix"
    )
    parser.add_argument(
        "--optimizer", metavar="CLASS", help="take from FROM the state of this optimizer of torch's"
    )
    parser.add_argument(
        "--params", metavar="FILE", help="its parameters for jax, or a file with them in `params`"
    )
    parser.add_argument(
        "--flax", action="store_true", help="they are a flax model's: kernel is torch's weight"
    )
    parser.add_argument(
        "--which", metavar="LABEL", help="the optimizer to take, if FROM has several"
    )
    parser.add_argument("--force", action="store_true", help="replace TO if it exists")


def run(args: argparse.Namespace) -> int:
    """Read, check, write; 0 if that went well."""
    who = "jopt convert"
    found = format_of(who, args.file, exists=True, named=args.source)
    if bool(args.optimizer) != bool(args.params) or (args.optimizer and found.name != "torch"):
        args.error("--optimizer needs --params, and a file or folder of torch with an optimizer")
    if args.which and not args.optimizer:
        args.error("--which chooses among optimizers: it needs --optimizer")
    target = format_of(who, args.target, exists=False, named=args.to)
    if os.path.lexists(args.target) and not args.force and target.name != "orbax":
        raise CheckpointError(
            who, f"{args.target} exists", fix="Choose another name, or replace it with --force."
        )
    objects: list[str] = []
    if args.optimizer:
        tree, transform = _optimizer(who, args)
    else:
        tree, transform = _tree(who, args, found, objects)
    kinds = kinds_of(who, flatten(who, tree))
    target.write(who, args.target, tree, transform)
    held = sum(state.size_of(kind) for kind in kinds.values())
    left_behind = transform is not None and target.name != "jopt"
    if args.json:
        report = {"from": {"file": args.file, "format": found.name}}
        report |= {"to": {"file": args.target, "format": target.name}}
        sums = {"leaves": len(kinds), "bytes": held, "transform_left_behind": left_behind}
        write_json({**report, **sums, "objects": objects})
        return 0
    write(
        f"{printable(args.target)}: {target.name}, {leaves(len(kinds))}, {size(held)} "
        f"from {printable(args.file)} ({found.name})"
    )
    for line in objects[:SHOWN]:
        write(f"Of an object its class alone came over: {printable(line)}")
    if len(objects) > SHOWN:
        write(f"... and of {len(objects) - SHOWN} others.")
    if left_behind:
        write("What it said about its transform stays behind.")
    return 0


def _tree(
    who: str, args: argparse.Namespace, found: Format, objects: list[str]
) -> tuple[Tree, Recorded]:
    """The tree of the file, in nested dicts, and what a jopt checkpoint says of its transform.

    `objects` gets what is no data in a file of torch.
    """
    recorded = None
    if found.name == "torch":
        from jopt.cli import torch_file

        tree, left = torch_file.read_all(f"{who} {args.file}", args.file)
        objects += left
        return _nested(who, tree), None
    if found.name == "jopt":
        with opened(who, args.file, "jopt") as source:
            recorded = source.transform
    return _nested(who, found.read(f"{who} {args.file}", args.file)), recorded


def _optimizer(who: str, args: argparse.Namespace) -> tuple[Tree, Recorded]:
    """The state for jopt of a torch optimizer, and the transform that it was."""
    from jopt.cli import torch_file

    found = format_of(who, args.params, exists=True)
    params = _nested(who, found.read(f"{who} {args.params}", args.params))
    params = params["params"] if isinstance(params, dict) and "params" in params else params
    tx, state = torch_file.read_optimizer(
        f"{who} {args.file}", args.file, args.optimizer, params, flax=args.flax, which=args.which
    )
    return _nested(who, state), describe(who, tx)


def _nested(who: str, tree: Tree) -> Tree:
    flat = flatten(who, tree)
    kinds = kinds_of(who, flat)
    return nest(flat, (x if kinds[p].shape is None else host(who, p, x) for p, x in flat.items()))
