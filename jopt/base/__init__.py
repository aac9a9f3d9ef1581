"""What every room may use: the error family, and objects that remember their call.

Imports nothing of jopt.
"""

from jopt.base.alike import alike as alike
from jopt.base.arguments import as_row as as_row
from jopt.base.arguments import in_order as in_order
from jopt.base.arguments import is_traced as is_traced
from jopt.base.arguments import meant as meant
from jopt.base.arguments import plain as plain
from jopt.base.arguments import settled as settled
from jopt.base.arguments import whole_number as whole_number
from jopt.base.branches import NO_ARRAY as NO_ARRAY
from jopt.base.branches import called as called
from jopt.base.branches import number_of as number_of
from jopt.base.branches import takes as takes
from jopt.base.call import Call as Call
from jopt.base.configured import Configured as Configured
from jopt.base.configured import configured as configured
from jopt.base.configured import factory as factory
from jopt.base.doubles import doubles as doubles
from jopt.base.errors import CallError as CallError
from jopt.base.errors import CheckpointError as CheckpointError
from jopt.base.errors import ConfigError as ConfigError
from jopt.base.errors import DamagedError as DamagedError
from jopt.base.errors import GroupError as GroupError
from jopt.base.errors import JoptError as JoptError
from jopt.base.errors import StateError as StateError
from jopt.base.errors import TreeError as TreeError
from jopt.base.kinds import check_fields as check_fields
from jopt.base.kinds import check_kind as check_kind
from jopt.base.kinds import checked as checked
from jopt.base.kinds import is_one_of as is_one_of
from jopt.base.printable import LINE as LINE
from jopt.base.printable import printable as printable
