"""Gradient transforms: they take numbers and give a Transform."""

from jopt.transforms.clip import clip_by_global_norm as clip_by_global_norm
from jopt.transforms.clip import clip_by_norm as clip_by_norm
from jopt.transforms.clip import clip_by_value as clip_by_value
