"""The `jopt` command: inspect, verify, diff and convert checkpoints. `docs/cli.md` shows it."""

from jopt.cli.app import main as main
