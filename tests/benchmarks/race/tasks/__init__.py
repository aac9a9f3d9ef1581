"""The tasks, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.race.task import Task
from tests.benchmarks.race.tasks.characters import characters
from tests.benchmarks.race.tasks.images import autoencoder, digits
from tests.benchmarks.race.tasks.small import factorisation, quadratic, tabular

TASKS: dict[str, Callable[[], Task]] = {
    "quadratic": quadratic,
    "factorisation": factorisation,
    "tabular": tabular,
    "autoencoder": autoencoder,
    "digits": digits,
    "characters": characters,
}
