"""States of torch's optimizers to jopt's and back.

`transfer` is what users call. `targets` finds the parts that torch has a class for, `members` says
which leaf, or layer of a leaf, a parameter of torch's is, `pairing` which stand in which group,
`numbers` translates groups, and `slots` the buffers, by the table that a spec's slots are: torch's
key, jopt's slot, how the axes turn. `lbfgs` does what `slots` does for the flat vectors of L-BFGS,
by a table of its own; `rounds` has gradients of half a round.
"""
