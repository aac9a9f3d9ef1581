"""Quasi-hyperbolic momentum for JAX.

>>> from quasihyperbolic import qhm
>>> qhm(0.1)
quasihyperbolic.qhm(learning_rate=0.1)
"""

from quasihyperbolic._qhm import qhm as qhm

__version__ = "0.1.0"
