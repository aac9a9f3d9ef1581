"""torch's schedulers as jopt's schedules and back.

`build` makes schedules from torch's classes and arguments, with `rates` for the single ones.
`imported` rebuilds them from state dicts, whose keys `arguments` reads; `exported` goes the
other way, by the `names` of classes. `paced` is a schedule that steps less often.
"""
