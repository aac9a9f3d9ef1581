"""States of torch's optimizers to jopt's and back.

`transfer` is what users call. `targets` finds the parts that torch has a class for, `places`
pairs torch's ids with leaves, `numbers` translates groups, `slots` the buffers, and `lbfgs`
those of L-BFGS, which torch keeps flat.
"""
