"""safetensors: a tree in one flat file of named tensors, which other tools read too.

The tensors are named as jopt names leaves, `state/adamw/mu/dense/kernel`. What the format has no
place for (Python values, empty containers, the transform, a checksum for every tensor) is in
a manifest, that of `jopt.save`, under the key `jopt` of the file's `__metadata__`.
"""

from jopt.interop.safetensors.store import load as load
from jopt.interop.safetensors.store import save as save
