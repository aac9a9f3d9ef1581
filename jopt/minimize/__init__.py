"""From a function and a start to a minimum: L-BFGS, or any transform, driven to convergence."""

from jopt.minimize.entry import minimize as minimize
from jopt.minimize.result import Minimum as Minimum
