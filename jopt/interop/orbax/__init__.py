"""orbax: asynchronous checkpoints of many hosts, verified on restore. Imports orbax.

orbax stores arrays that no single machine holds, and does not notice when a stored bit changes.
`Handler` adds to an orbax checkpoint what `jopt.save` has: a manifest with every leaf, the
transform, and a checksum for each array that does not depend on how it is sharded.
"""

from jopt.interop.orbax.handler import Handler as Handler
from jopt.interop.orbax.handler import Restore as Restore
from jopt.interop.orbax.handler import Save as Save
from jopt.interop.orbax.store import restore as restore
from jopt.interop.orbax.store import save as save
