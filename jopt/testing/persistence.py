"""Laws of files: a state survives the process, to the bit."""

from __future__ import annotations

import pickle

from jopt.checkpoint import from_bytes, to_bytes
from jopt.testing.compare import same_bits
from jopt.testing.law import HALF, law
from jopt.testing.subject import Subject


@law(dtypes=("float32", *HALF))
def resumes(subject: Subject, dtype: str) -> None:
    """Saved, loaded and continued, a run is the run that was not interrupted, to the bit."""
    params = subject.params(dtype)
    like = {"params": params, "state": subject.tx.init(params)}
    params, state = subject.run(params, like["state"], range(3))
    loaded = from_bytes(like, to_bytes({"params": params, "state": state}))
    same_bits("the loaded state", loaded["state"], state)
    again = subject.run(loaded["params"], loaded["state"], range(3, 6))
    same_bits("the run that was continued", again, subject.run(params, state, range(3, 6)))


@law()
def pickles(subject: Subject, dtype: str) -> None:
    """A pickled state is the state."""
    state = subject.tx.init(subject.params(dtype))
    same_bits("the pickled state", pickle.loads(pickle.dumps(state)), state)
