"""Files and folders of torch's world, read without running anything that is in them.

`folders` is what users call. `files` reads single files and the files of a folder, `pickles` those
of `torch.save`, `distributed` the folders of `torch.distributed.checkpoint`; `parts` finds
optimizers, schedulers and models among what was read, `flattened` numbers the parameters of
optimizers that name them, and `huggingface` says what the Trainer's files leave out.
"""
