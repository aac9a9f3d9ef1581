"""State dicts, bytes and files: what survives a process.

`docs/checkpoints.md` describes the format. From the bottom up: `leaves` names the leaves of
any tree, `manifest` describes them, `wire` turns both to bytes and back, `files` puts bytes
on a disk, `compare` compares two trees, `config` compares two transforms, and
`state_dict` and `store` are what users call.
"""

from jopt.checkpoint.compare import Difference as Difference
from jopt.checkpoint.state_dict import differences as differences
from jopt.checkpoint.state_dict import load_state_dict as load_state_dict
from jopt.checkpoint.state_dict import state_dict as state_dict
from jopt.checkpoint.store import from_bytes as from_bytes
from jopt.checkpoint.store import load as load
from jopt.checkpoint.store import save as save
from jopt.checkpoint.store import to_bytes as to_bytes
