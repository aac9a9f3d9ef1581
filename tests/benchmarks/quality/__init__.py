"""Whether what is small is good enough: training with small states and parameters, compared."""
