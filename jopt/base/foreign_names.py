"""What other libraries call the arguments that jopt's factories take, for the errors to tell."""

OURS: dict[str, tuple[str, ...]] = {
    # torch's optimizers; an optimizer's own Spec goes first.
    "lr": ("learning_rate", "init_value", "peak_value", "base_lr"),
    "betas": ("b1", "b2"),
    "beta1": ("b1",),
    "beta2": ("b2",),
    "alpha": ("decay", "end_value"),
    "rho": ("decay",),
    "wd": ("weight_decay",),
    "weight_decay_rate": ("weight_decay",),
    "dtype": ("state_dtype",),
    "step_sizes": ("min_step_size", "max_step_size"),
    "etas": ("eta_minus", "eta_plus"),
    # optax's.
    "beta": ("momentum", "b1"),
    "decay_rate": ("b2_decay", "decay", "gamma"),
    "eps": ("eps1", "eps2"),
    "memory_size": ("history_size",),
    "linesearch": ("line_search",),
    "ns_coeffs": ("ns_coefficients",),
    "mask": ("groups",),
    "weight_decay_mask": ("groups",),
    "mu_dtype": ("state_dtype",),
    "accumulator_dtype": ("state_dtype",),
    "dtype_momentum": ("state_dtype",),
    # Clips and wrappers.
    "max_delta": ("max_value",),
    "clip_value": ("max_value",),
    "clip_norm": ("max_norm",),
    "max_grad_norm": ("max_norm",),
    "every_k_schedule": ("every",),
    "accumulation_steps": ("every",),
    "opt": ("tx",),
    "optimizer": ("tx",),
    "inner": ("tx",),
    # Schedules.
    "value": ("init_value", "peak_value"),
    "T_0": ("steps",),
    "T_max": ("steps",),
    "T_mult": ("multiplier",),
    "anneal_epochs": ("steps",),
    "anneal_strategy": ("anneal",),
    "base_lr": ("base_value", "init_value"),
    "boundaries_and_scales": ("milestones",),
    "decay_steps": ("total_steps", "steps"),
    "end_lr": ("end_value",),
    "eta_min": ("end_value",),
    "init_lr": ("init_value",),
    "lr_lambda": ("function",),
    "max_lr": ("peak_value", "max_value"),
    "min_lr": ("min_value",),
    "num_training_steps": ("total_steps", "training_steps", "steps"),
    "num_warmup_steps": ("warmup_steps", "steps"),
    "peak_lr": ("peak_value",),
    "rtol": ("threshold",),
    "step_size_down": ("steps_down",),
    "step_size_up": ("steps_up",),
    "swa_lr": ("swa_value",),
    "total_iters": ("steps",),
    "transition_steps": ("total_steps", "steps"),
}
"""Another's name, and ours for the same: those of these names that a factory has."""

_COMPILED = "XLA decides how the update runs: leave it out."
_IN_STATE = "The step is in the state, and starts at 0: leave it out."

REMARKS = {
    "params": "The parameters go to init and update.",
    "foreach": _COMPILED,
    "fused": _COMPILED,
    "capturable": _COMPILED,
    "differentiable": _COMPILED,
    "last_epoch": _IN_STATE,
    "transition_begin": "Put it behind another schedule with jopt.schedules.join.",
    "eps_root": "There is no epsilon under the root: leave it out where it is 0.",
}
"""What has no counterpart here, and why."""
