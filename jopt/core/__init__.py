"""Transforms, the spec they declare, and the doors that lift rules to trees."""

from jopt.core.apply import apply_updates as apply_updates
from jopt.core.apply import extend as extend
from jopt.core.apply import step as step
from jopt.core.chain import chain as chain
from jopt.core.doors import leafwise as leafwise
from jopt.core.doors import treewise as treewise
from jopt.core.groups import Common as Common
from jopt.core.groups import Group as Group
from jopt.core.groups import Groups as Groups
from jopt.core.groups import group as group
from jopt.core.groups import owned as owned
from jopt.core.hyperparams import hyperparams as hyperparams
from jopt.core.hyperparams import set_hyperparams as set_hyperparams
from jopt.core.matrixwise import matrixwise as matrixwise
from jopt.core.numbers import Number as Number
from jopt.core.numbers import Value as Value
from jopt.core.route import route as route
from jopt.core.route import routing as routing
from jopt.core.rows import row_gradient as row_gradient
from jopt.core.rows import rowwise as rowwise
from jopt.core.spec import Hyper as Hyper
from jopt.core.spec import Slot as Slot
from jopt.core.spec import Spec as Spec
from jopt.core.transform import State as State
from jopt.core.transform import Transform as Transform
