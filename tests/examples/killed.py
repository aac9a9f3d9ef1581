"""Runs a script and kills this process at a chosen moment: `killed.py MOMENT SCRIPT ARGS...`.

Moments, where k counts from 1:

- `step:k`: the k-th training step is done;
- `open:k`: the k-th checkpoint is about to be written, its file does not exist yet;
- `write:k`: half of the k-th checkpoint is written;
- `rename:k`: the k-th checkpoint is complete but does not have its name yet.

The process ends as by `kill -9`: no handler runs, no buffer is flushed. Within a write the
kernel does it, once the file reaches a limit of size; that signal is SIGXFSZ.
"""

import os
import resource
import runpy
import signal
import sys

HALF = 150_000  # bytes; a checkpoint of the digits example has about twice as many


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_within_the_write():
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, HALF))


class Countdown:
    """Calls `act` at the k-th call."""

    def __init__(self, k, act):
        self.left, self.act = k, act

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            self.act()


def on_step(reached):
    """The example reads the learning rate once a step, by a public function."""
    import jopt

    read = jopt.hyperparams

    def counted(state):
        reached()
        return read(state)

    jopt.hyperparams = counted


def on_file(event, reached):
    """Python reports every file that it opens or renames to audit hooks, before it does."""

    def hook(name, args):
        if name == "open" and event in ("open", "write"):
            path, _, flags = args
            if str(path).endswith(".tmp") and flags & os.O_CREAT:
                reached()
        elif name == "os.rename" and event == "rename" and str(args[1]).endswith(".msgpack"):
            reached()

    sys.addaudithook(hook)


if __name__ == "__main__":
    moment, script, *arguments = sys.argv[1:]
    event, k = moment.split(":")
    reached = Countdown(int(k), die_within_the_write if event == "write" else die)
    if event == "step":
        on_step(reached)
    else:
        on_file(event, reached)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
