"""optax: its optimizer states as jopt's, and back. Does not import optax."""

from jopt.interop.optax.transfer import export_state as export_state
from jopt.interop.optax.transfer import import_state as import_state
