"""`jopt.interop.torchfiles.files`, by the name under which it was documented first."""

from jopt.interop.torchfiles.files import is_torch_file as is_torch_file
from jopt.interop.torchfiles.files import is_torch_folder as is_torch_folder
from jopt.interop.torchfiles.files import read_folder as read_folder
from jopt.interop.torchfiles.files import read_torch as read_torch
