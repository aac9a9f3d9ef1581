"""Where a state lives on a mesh, told from where the parameters live."""

from jopt.sharding.data_parallel import zero1_step as zero1_step
from jopt.sharding.laid_out import laid_out as laid_out
from jopt.sharding.laid_out import with_layouts as with_layouts
from jopt.sharding.owned import owned as owned
from jopt.sharding.owned import to_leaves as to_leaves
from jopt.sharding.owned import to_stacks as to_stacks
from jopt.sharding.state import init as init
from jopt.sharding.state import offload as offload
from jopt.sharding.state import state_sharding as state_sharding
from jopt.sharding.state import zero1 as zero1
