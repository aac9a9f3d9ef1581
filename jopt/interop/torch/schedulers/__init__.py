"""torch's schedulers: built from torch's arguments, taken from its state dicts, given back to it.

`kinds`, `cycles` and `several` have a record for each class, and `kind` is what reads one. `build`
makes a schedule of torch's arguments, `imported` of a state dict (`saved` checks each value,
`rebuilt` puts it together), `exported` a state dict of a schedule, which `names` says the class of;
`paced` moves a schedule to its pace.
"""

from jopt.interop.torch.schedulers import kinds as kinds  # fills the table of records
