"""Gradient transforms: they take numbers and give a Transform."""

from jopt.transforms.clip import clip_by_global_norm as clip_by_global_norm
from jopt.transforms.clip import clip_by_norm as clip_by_norm
from jopt.transforms.clip import clip_by_value as clip_by_value
from jopt.transforms.steps import add_decayed_weights as add_decayed_weights
from jopt.transforms.steps import scale_by_learning_rate as scale_by_learning_rate
