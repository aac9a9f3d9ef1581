"""Who owns which matrix on a mesh, and how matrices get to their owners and back.

`lies` says how an array lies, `classes` which matrices are one stack and who owns them, `cuts` how
a matrix is in pieces, `exchange` moves the pieces. `costs` says how many devices a matrix gets:
one, a team where there are more devices than matrices, or all: `in_place`, where nobody owns it.
`stacks` is what stays with the owners from step to step, `deals` says in which rows.
None of it knows of optimizers.
"""

from jopt.core.ownership.classes import Class as Class
from jopt.core.ownership.classes import classes_of as classes_of
from jopt.core.ownership.costs import IN_PLACE as IN_PLACE
from jopt.core.ownership.costs import team_for as team_for
from jopt.core.ownership.costs import team_size as team_size
from jopt.core.ownership.deals import Deal as Deal
from jopt.core.ownership.deals import Owner as Owner
from jopt.core.ownership.exchange import Exchange as Exchange
from jopt.core.ownership.exchange import lying_so as lying_so
from jopt.core.ownership.exchange import on_owners as on_owners
from jopt.core.ownership.in_place import in_place as in_place
from jopt.core.ownership.lies import Lie as Lie
from jopt.core.ownership.lies import lie_told as lie_told
from jopt.core.ownership.lies import lies_of as lies_of
from jopt.core.ownership.lies import parts_on as parts_on
from jopt.core.ownership.stacks import KEY as KEY
from jopt.core.ownership.stacks import OwnedStack as OwnedStack
