"""Optimizers that torch lacks, as plain loops in float64: the lines of their papers for one array.

Each is `name(p, gs, **numbers)`: the parameter after the steps with the gradients `gs`. They share
nothing with jopt, nor with each other.
"""

from tests.oracles.papers.adams import *  # noqa: F403
from tests.oracles.papers.matrices import *  # noqa: F403
from tests.oracles.papers.momenta import *  # noqa: F403
from tests.oracles.papers.norms import *  # noqa: F403
from tests.oracles.papers.rate_free import *  # noqa: F403
from tests.oracles.papers.small_state import *  # noqa: F403
