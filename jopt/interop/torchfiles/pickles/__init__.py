"""What `torch.save` wrote, read without running anything that is in it.

`archive` finds pickle and storages in a file; `machine` goes through the pickle, and calls nothing
but the makers of plain data in `makers`, which make tensors by `tensors` and NumPy's arrays by
`arrays`; all else becomes a `placeholder`.
"""
