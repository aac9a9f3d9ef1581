"""The laws that jopt's optimizers are tested with, for optimizers of any origin.

A `Subject` is an optimizer with what it is tried on, a `Law` a function of a subject that raises
`BrokenError` where it does not hold. The laws stand by what they are about: `structure`, `leaves`,
`dtypes`, `steps`, `devices`, `persistence`. `check` holds them against an optimizer and makes a
`Verdict`.
"""

from jopt.testing.check import check as check
from jopt.testing.law import LAWS as LAWS
from jopt.testing.law import Law as Law
from jopt.testing.report import Finding as Finding
from jopt.testing.report import LawError as LawError
from jopt.testing.report import Verdict as Verdict
