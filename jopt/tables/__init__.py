"""What a transform does to which leaf, and what it keeps, in rows: for people to read."""

from jopt.tables.summary import Summary as Summary
from jopt.tables.summary import summary as summary
