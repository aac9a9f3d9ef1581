"""What finds its own learning rate."""

from __future__ import annotations

import numpy as np


def prodigy(
    p,
    gs,
    *,
    learning_rate,
    b1,
    b2,
    b3,
    eps,
    estim_lr0,
    estim_lr_coef,
    weight_decay,
    safeguard_warmup,
    bias_correction,
):
    b3 = np.sqrt(b2) if b3 is None else b3
    start, m, v, s, r, d = p, 0 * p, 0 * p, 0 * p, 0.0, estim_lr0
    for t, g in enumerate(gs, 1):
        bias = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        rate = d * learning_rate * bias
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * (d * g) ** 2
        s = b3 * s + d / estim_lr0 * (d if safeguard_warmup else rate) * g
        r = b3 * r + d / estim_lr0 * rate * np.sum(g * (start - p))
        if np.any(s):
            d = max(d, estim_lr_coef * r / np.sum(np.abs(s)))
        p = p - rate * (m / (np.sqrt(v) + d * eps) + weight_decay * p)
    return p
