"""What every room may use: the error family, and objects that remember their call.

Imports nothing of jopt.
"""

from jopt.base.configured import Call as Call
from jopt.base.configured import Configured as Configured
from jopt.base.configured import configured as configured
from jopt.base.configured import plain as plain
from jopt.base.errors import CheckpointError as CheckpointError
from jopt.base.errors import ConfigError as ConfigError
from jopt.base.errors import GroupError as GroupError
from jopt.base.errors import JoptError as JoptError
from jopt.base.errors import StateError as StateError
from jopt.base.errors import TreeError as TreeError
