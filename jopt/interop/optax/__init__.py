"""optax: its optimizer states as jopt's, and back, and jopt's transforms as optax's.

Imports optax only where `wrap` is called.
"""

from jopt.interop.optax.transfer import export_state as export_state
from jopt.interop.optax.transfer import import_state as import_state
from jopt.interop.optax.wrap import wrap as wrap
