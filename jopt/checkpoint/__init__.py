"""State dicts, bytes and files: what survives a process.

`docs/format.md` describes the format. From the bottom up: `leaves` names the leaves of any tree,
`fetching` brings them to the host, `manifest` describes them and `decoding` reads what it says,
`pieces` says where they stand in a file, `wire` turns all this to bytes and back through `memory`,
`files` puts bytes on a disk, `progress` shows a bar meanwhile, `compare` compares two trees,
`config` compares two transforms, `names` holds patterns against names, `leaf_counts` lets a state
say which leaves are younger, `placing` puts arrays where they belong, `fitting` holds a state
against the tree that it is to fill, `loading` joins these, `state_dict` and `store` are what users
call, and over them `checkpoints`, with `kept` for what a folder holds.
"""

from jopt.checkpoint.checkpoints import Checkpoints as Checkpoints
from jopt.checkpoint.checkpoints import Resumed as Resumed
from jopt.checkpoint.compare import Difference as Difference
from jopt.checkpoint.compare import Report as Report
from jopt.checkpoint.kept import Kept as Kept
from jopt.checkpoint.state_dict import differences as differences
from jopt.checkpoint.state_dict import load_state_dict as load_state_dict
from jopt.checkpoint.state_dict import state_dict as state_dict
from jopt.checkpoint.store import from_bytes as from_bytes
from jopt.checkpoint.store import load as load
from jopt.checkpoint.store import save as save
from jopt.checkpoint.store import to_bytes as to_bytes
