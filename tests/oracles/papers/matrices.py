"""Optimizers that multiply a parameter's axes by matrices of their own."""

from __future__ import annotations

import numpy as np

from tests.oracles.papers.draws import as_drawn, fits


def along(x, axis, q):
    """qᵀ·x along an axis."""
    return np.moveaxis(np.tensordot(q.T, x, axes=(1, axis)), 0, axis)


def unfolded(x, axis):
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def soap(p, gs, *, learning_rate, b1, b2, b3, eps, update_every, max_size, one_sided, weight_decay):
    b3 = b2 if b3 is None else b3
    held = [a for a in range(np.ndim(p)) if np.shape(p)[a] <= max_size]
    held = held if np.ndim(p) > 1 else []
    if one_sided and len(held) > 1:
        held.remove(max(reversed(held), key=lambda a: p.shape[a]))
    m, v = 0 * p, 0 * p
    factors = {a: np.zeros((p.shape[a],) * 2) for a in held}
    bases = {}
    for step, g in enumerate(gs):
        t = step if held else step + 1
        d = 0
        if t:
            m = b1 * m + (1 - b1) * g
            turned, ahead = g, m
            for a, q in bases.items():
                turned, ahead = along(turned, a, q), along(ahead, a, q)
            v = b2 * v + (1 - b2) * turned**2
            d = ahead / (np.sqrt(v) + eps) * np.sqrt(1 - b2**t) / (1 - b1**t)
            for a, q in bases.items():
                d = along(d, a, q.T)
        p = p - learning_rate * (d + weight_decay * p)
        for a in held:
            u = unfolded(g, a)
            factors[a] = b3 * factors[a] + (1 - b3) * u @ u.T
            if t == 0:
                bases[a] = np.linalg.eigh(factors[a])[1][:, ::-1]
            elif t % update_every == 0:
                x = factors[a] @ bases[a]
                order = np.argsort(-np.sum(bases[a] * x, 0))
                bases[a] = np.linalg.qr(x[:, order])[0]
                v = np.take(v, order, a)
    return p


EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonal(u, coefficients, steps, eps, dtype):
    assert dtype == "float64"
    if u.shape[0] > u.shape[1]:
        return orthogonal(u.T, coefficients, steps, eps, dtype).T
    x = u / max(np.linalg.norm(u), eps)
    if coefficients == "polar_express":
        assert steps <= len(EXPRESS)
        x, coefficients = x / 1.02, EXPRESS
    one = np.ndim(coefficients) == 1
    for a, b, c in [coefficients] * steps if one else coefficients[:steps]:
        x = a * x + (b * x @ x.T + c * x @ x.T @ x @ x.T) @ x
    return x


def sized(shape, adjust_lr, kernels):
    m, n = shape if kernels == "out_in" else shape[::-1]
    scales = {
        None: 1.0,
        "original": np.sqrt(max(1, m / n)),
        "spectral": np.sqrt(m / n),
        "match_rms_adamw": 0.2 * np.sqrt(max(m, n)),
    }
    return scales[adjust_lr]


def normuon(
    p, gs, *, learning_rate, weight_decay, momentum, b2, eps, nesterov, ns_coefficients, ns_steps,
    adjust_lr, kernels, ns_dtype,
):  # fmt: skip
    m, v = 0 * p, 0
    for g in gs:
        m = momentum * m + (1 - momentum) * g
        u = momentum * m + (1 - momentum) * g if nesterov else m
        x = orthogonal(u, ns_coefficients, ns_steps, 1e-7, ns_dtype)
        v = b2 * v + (1 - b2) * np.mean(x**2, 1 if kernels == "out_in" else 0, keepdims=True)
        d = x / (np.sqrt(v) + eps)
        length = 0.2 * np.sqrt(p.size)
        if adjust_lr is not None:
            length = sized(p.shape, adjust_lr, kernels) * np.linalg.norm(x)
        d = length * d / np.linalg.norm(d)
        p = p - learning_rate * (d + weight_decay * p)
    return p


def dion2(
    p, gs, *, learning_rate, weight_decay, momentum, eps, fraction, ns_coefficients, ns_steps,
    adjust_lr, kernels, ns_dtype,
):  # fmt: skip
    if p.shape[0] > p.shape[1]:
        numbers = {k: x for k, x in locals().items() if k not in ("p", "gs", "kernels")}
        other = "in_out" if kernels == "out_in" else "out_in"
        return dion2(p.T, np.swapaxes(gs, 1, 2), kernels=other, **numbers).T
    m, count = 0 * p, int(np.ceil(fraction * len(p)))
    for g in gs:
        m = m + g
        rows = np.argsort(-np.abs(m).sum(1), kind="stable")[:count]
        d = 0 * p
        d[rows] = orthogonal(m[rows], ns_coefficients, ns_steps, eps, ns_dtype)
        m[rows] *= momentum
        d = sized(p.shape, adjust_lr, kernels) * d
        p = p - learning_rate * (d + weight_decay * p)
    return p


def shampoo(
    p, gs, *, learning_rate, b1, b2, eps, ridge, graft, graft_eps, block_size, update_every, start,
    power, vectors, method, spread, weight_decay,
):  # fmt: skip
    d = np.ndim(p)
    cuts = [np.linspace(0, k * -(-n // k), k + 1).astype(int)
            for n in np.shape(p) for k in [-(-n // block_size)]]  # fmt: skip
    tiles = [
        tuple(slice(c[i], c[i + 1]) for c, i in zip(cuts, at, strict=True))
        for at in np.ndindex(*(len(c) - 1 for c in cuts))
    ]
    # Of a tall matrix turned over the tiles are numbered the other way round.
    counts = [len(c) - 1 for c in cuts]
    rows = np.arange(len(tiles)).reshape(counts or 1)
    if d == 2 and p.shape[0] > p.shape[1]:
        rows = np.arange(len(tiles)).reshape(counts[::-1]).T
    turns = rows.ravel() // -(-len(tiles) // update_every) if spread else np.zeros(len(tiles))
    preconditioned = d > 1 or (d == 1 and vectors)
    m, v = 0 * p, 0 * p
    factors = {(i, a): 0.0 for i in range(len(tiles)) for a in range(d)}
    roots = {}
    weight = 1 if b2 == 1 else 1 - b2
    for t, g in enumerate(gs, 1):
        k2 = 1 if b2 == 1 else 1 / (1 - b2**t)
        m = b1 * m + (1 - b1) * g
        ahead = m / (1 - b1**t)
        v = b2 * v + weight * g**2
        other = ahead / (np.sqrt(k2 * v) + graft_eps) if graft == "adam" else ahead
        other = graft(g) if callable(graft) else other
        step = other
        if preconditioned:
            found = 0 * p
            for i, tile in enumerate(tiles):
                x = ahead[tile]
                for a in range(d):
                    u = unfolded(g[tile], a)
                    f = factors[i, a] = b2 * factors[i, a] + weight * u @ u.T
                    if t == start or (t > start and (t - start) % update_every == turns[i]):
                        floor = eps + ridge * np.linalg.norm(k2 * f)
                        w, q = np.linalg.eigh(k2 * f + floor * np.eye(len(f)))
                        roots[i, a] = q * w ** (-1 / (power or 2 * d)) @ q.T
                    if t >= start:
                        x = along(x, a, roots[i, a])
                found[tile] = x
            if t >= start:
                step = found
                if graft:
                    size = np.linalg.norm(step)
                    step = step * np.linalg.norm(other) / (size if size > 0 else 1)
        p = p - learning_rate * (step + weight_decay * p)
    return p


def kron(
    p, gs, *, learning_rate, b1, preconditioner_rate, update_probability, init_scale, max_rms,
    max_size, diagonal, momentum_fits, spread, update_every, weight_decay, seed,
):  # fmt: skip
    shape, p, m = np.shape(p), np.atleast_1d(p), np.zeros(np.shape(p) or 1)
    d = p.ndim
    kinds = [n > 1 and n <= max_size and d > 1 and diagonal != "all" for n in p.shape]
    if diagonal == "one":
        kinds[max(range(d), key=lambda a: (p.shape[a], a))] = False
    scale = init_scale ** (1 / d)
    qs = [scale * np.eye(n) for n in p.shape]
    due, balancing, normal = fits(seed)
    for t, g in enumerate(gs, 1):
        g = np.reshape(g, p.shape)
        m = b1 * m + (1 - b1) * g
        ahead = m / (1 - b1**t)
        share = update_probability
        share = np.clip(np.exp(-0.001 * (t - 500)), 0.03, 1) if share is None else share
        every = np.float32(1 / update_every if spread else 1)  # the only one of its shape
        both = max(0, (share - every) / (1 - every)) if every < 1 else 0
        some = both + (1 - both) * min(1, share / every) if (t - 1) % update_every == 0 else both
        if due[t] < np.float32(some if spread else share):
            if balancing[t] < 0.01:
                sizes = [np.abs(q).max() for q in qs]
                qs = [q * np.prod(sizes) ** (1 / d) / n for q, n in zip(qs, sizes, strict=True)]
            x = ahead if momentum_fits else g
            v = as_drawn(normal[t], x.shape)
            x = x + np.sqrt(np.finfo(np.float32).eps) * np.abs(x).mean() * v
            for a, q in enumerate(qs):
                x, v = along(x, a, q.T), along(v, a, np.linalg.inv(q))
            new = []
            for a, q in enumerate(qs):
                one, two = (unfolded(y, a) @ unfolded(y, a).T for y in (x, v))
                if kinds[a]:
                    new.append(q - preconditioner_rate * np.triu(one - two) @ q / below(one + two))
                else:
                    one, two = np.diag(np.diag(one)), np.diag(np.diag(two))
                    new.append(q - preconditioner_rate * (one - two) @ q / (one + two).max())
            qs = new
        step = ahead
        for a, q in enumerate(qs):
            step = along(along(step, a, q.T), a, q)
        if max_rms is not None:
            step = step / max(1, np.sqrt(np.mean(step**2)) / max_rms)
        p = p - learning_rate * (step + weight_decay * p)
    return p.reshape(shape)


def below(a):
    """PSGD's lower bound of the norm of a symmetric matrix."""
    x = a @ a[:, np.argmax((a**2).sum(0))]
    return np.linalg.norm(a @ x / np.linalg.norm(x))


def kl_shampoo(
    p, gs, *, learning_rate, b1, b2, eps, init_scale, largest_scale, update_every, max_size,
    weight_decay,
):  # fmt: skip
    held = [a for a in (0, 1) if p.shape[a] <= max_size]
    m = 0 * p
    factors, bases, values = {}, {}, {}
    most = {a: np.inf if largest_scale is None else max(10, min(p.shape[a], largest_scale))
            for a in held}  # fmt: skip
    for t, g in enumerate(gs):
        scales = {a: np.minimum(v**-0.5, most[a]) for a, v in values.items()}
        d = 0
        if t:
            m = b1 * m + (1 - b1) * g
            d, both = m, 1.0
            for a in held:
                d, both = along(d, a, bases[a]), both * np.expand_dims(scales[a], 1 - a)
            d = d * both / (1 + eps * both)
            for a in held:
                d = along(d, a, bases[a].T)
        p = p - learning_rate * (d + weight_decay * p)
        for a in held:
            b = 1 - a
            white = g
            if t and b in held:
                white = along(along(g, b, bases[b]) * np.expand_dims(scales[b], a), b, bases[b].T)
            u = unfolded(white, a)
            factors[a] = b2 * factors.get(a, 0) + (1 - b2) * u @ u.T / p.shape[b]
            if t:
                seen = along(white, a, bases[a])
                values[a] = b2 * scales[a] ** -2.0 + (1 - b2) * np.mean(seen**2, b)
        for a in held:
            if t == 0:
                bases[a] = np.linalg.eigh(factors[a])[1][:, ::-1]
                values[a] = np.full(p.shape[a], init_scale)
            elif t % update_every == 0:
                bases[a] = np.linalg.qr(factors[a] @ bases[a])[0]
    return p
