"""optax's states that jopt knows: what their fields are, and which transform takes them."""

from __future__ import annotations

# What a field is. Any other word is the name of the slot, in jopt's states, that it belongs to.
COUNT, INNER, NUMBERS, IGNORED = "<count>", "<inner>", "<numbers>", "<ignored>"
NEXT = "<next>"  # the number of the step to come, one more than the count
OWN = "<own>"  # a count of the wrapper's own: of updates, or of steps since a period began
FRESH = "<fresh>"  # whether no step has been taken, which is all that some count

_FREE = {
    "exp_avg": "mu",
    "exp_avg_sq": "nu",
    "estim_lr": "distance",
    "numerator_weighted": "numerator",
    "count": COUNT,
}
# The loss and its gradient where the search ended are there for the caller to take.
_SEARCH = {"learning_rate": "step_size", "value": IGNORED, "grad": IGNORED, "info": IGNORED}
_MOMO = {"exp_avg": "mu", "barf": "mean_value", "gamma": "mean_dot", "lb": "bound", "count": COUNT}

STATES: dict[str, dict[str, str]] = {
    "EmptyState": {},
    "MaskedNode": {},
    "ScaleByScheduleState": {"count": COUNT},
    "WrappedScheduleState": {"count": COUNT},
    "ScaleByAdamState": {"count": COUNT, "mu": "mu", "nu": "nu"},
    "ScaleByAmsgradState": {"count": COUNT, "mu": "mu", "nu": "nu", "nu_max": "nu_max"},
    "ScaleByRmsState": {"nu": "nu"},
    "ScaleByRmsWithCountState": {"count": COUNT, "nu": "nu"},
    "ScaleByRStdDevState": {"mu": "mu", "nu": "nu"},
    "ScaleByRStdDevWithCountState": {"count": COUNT, "mu": "mu", "nu": "nu"},
    "ScaleByRssState": {"sum_of_squares": "sum_of_squares"},
    "ScaleByAdaDeltaState": {"e_g": "nu", "e_x": "nu_delta"},
    "ScaleByBeliefState": {"count": COUNT, "mu": "mu", "nu": "nu"},
    "ScaleByNovogradState": {"count": COUNT, "mu": "mu", "nu": "nu"},
    "ScaleByLionState": {"count": COUNT, "mu": "mu"},
    "ScaleByAdanState": {"t": COUNT, "m": "mu", "v": "delta", "n": "nu", "g": "prev_grad"},
    "ScaleByOptimisticGradientState": {"is_initial_step": FRESH, "previous_gradient": "previous"},
    "ScaleByAdemamixState": {
        "count": COUNT,
        "count_m2": COUNT,
        "m1": "mu",
        "m2": "mu_slow",
        "nu": "nu",
    },
    "ScaleBySimplifiedAdEMAMixState": {"t": COUNT, "m": "mu", "n": "nu"},
    "EmaState": {"count": COUNT, "ema": "mu"},
    "TraceState": {"trace": "momentum_buffer"},
    "MuonState": {"count": COUNT, "mu": "momentum_buffer", "ns_coeffs": IGNORED},
    "FactoredState": {"count": COUNT, "v_row": "v_row", "v_col": "v_col", "v": "v"},
    # Its key is of another generator: the noise goes on from a seed of jopt's.
    "AddNoiseState": {"count": COUNT, "rng_key": IGNORED},
    "MadgradState": {
        "count": COUNT,
        "grad_sum_sq": "sum_of_squares",
        "s": "grad_sum",
        "x0": "start",
    },
    # Its `mu` are the maxima along each axis, its `nu` is the momentum.
    "ScaleBySM3State": {"mu": "mu", "nu": "nu"},
    "COCOBState": {
        "init_particles": "start",
        "cumulative_gradients": "grad_sum",
        "scale": "largest",
        "subgradients": "abs_sum",
        "reward": "reward",
    },
    "DoGState": {
        "is_init_step": FRESH,
        "init_params": "start",
        "max_dist": "distance",
        "sum_sq_norm_grads": "grad_norm",
    },
    "DoWGState": {
        "init_params": "start",
        "weighted_sq_norm_grads": "grad_norm",
        "estim_sq_dist": "distance",
    },
    "DAdaptAdamWState": {**_FREE, "grad_sum": "grad_sum"},
    "ProdigyState": {**_FREE, "grad_sum": "grad_sum", "params0": "start"},
    "SophiaState": {"count": COUNT, "mu": "mu", "nu": "nu", "hessian_fn_state": IGNORED},
    "GaLoreState": {"count": COUNT, "base_optimizer_state": INNER, "projector": "projector"},
    "MechanicState": {
        "base_optimizer_state": INNER,
        "count": COUNT,
        "r": "reward",
        "m": "largest",
        "v": "squares",
        "s": "scale",
        "x0": "start",
    },
    "SAMState": {
        "steps_since_sync": "ascended",
        "opt_state": INNER,
        "adv_state": IGNORED,  # of what goes up, which keeps nothing
        "cache": "anchor",
    },
    "MomoState": _MOMO,
    "MomoAdamState": {**_MOMO, "exp_avg_sq": "nu"},
    # Where the last step began is which way it went; a weight is one over a product of the pairs.
    "ScaleByLBFGSState": {
        "count": "n_iter",
        "params": "d",
        "updates": "prev_grad",
        "diff_params_memory": "s",
        "diff_updates_memory": "y",
        "weights_memory": "sy",
    },
    "ScaleByBacktrackingLinesearchState": _SEARCH,
    "ScaleByZoomLinesearchState": _SEARCH,
    "MaskedState": {"inner_state": INNER},
    "SplitRealAndImaginaryState": {"inner_state": INNER},
    "PartitionState": {"inner_states": INNER},
    "InjectStatefulHyperparamsState": {
        "count": COUNT,
        "hyperparams": NUMBERS,
        "hyperparams_states": INNER,
        "inner_state": INNER,
    },
    "InjectHyperparamsState": {"count": COUNT, "hyperparams": NUMBERS, "inner_state": INNER},
    "MultiStepsState": {
        "mini_step": "micro",
        "gradient_step": COUNT,
        "inner_opt_state": INNER,
        "acc_grads": "sum",
        "skip_state": IGNORED,
    },
    "ScheduleFreeState": {
        "b1": "mix",
        "weight_sum": "weight_sum",
        "step_count": NEXT,
        "max_lr": "rate_max",
        "base_optimizer_state": INNER,
        "z": "z",
    },
    "ApplyIfFiniteState": {
        "notfinite_count": "in_a_row",
        "last_finite": IGNORED,
        "total_notfinite": "total",
        "inner_state": INNER,
    },
    "LookaheadState": {"fast_state": INNER, "steps_since_sync": OWN},
    "ConditionallyTransformState": {"inner_state": INNER, "step": OWN},
    "ConditionallyMaskState": {"inner_state": INNER, "step": OWN},
    "ScaleByRpropState": {"step_sizes": "step_size", "prev_updates": "prev"},
    "WeightDecaySchedule": {"count": COUNT},
    # What was seen at the last step.
    "ZeroNansState": {"found_nan": IGNORED},
    "SnapshotState": {"measurement": IGNORED},
    "MonitorState": {"measurements": IGNORED, "measure_states": IGNORED},
    "DifferentiallyPrivateAggregateState": {"rng_key": IGNORED},
}
"""optax's states by the names of their types: what each field is."""

_SEARCHES = ("ScaleByBacktrackingLinesearchState", "ScaleByZoomLinesearchState")
_RMS = ("ScaleByRmsState", "ScaleByRmsWithCountState")
_STDDEV = ("ScaleByRStdDevState", "ScaleByRStdDevWithCountState")

SOURCES: dict[str, tuple[str, ...]] = {
    "adam": ("ScaleByAdamState", "ScaleByAmsgradState"),
    "adamw": ("ScaleByAdamState", "ScaleByAmsgradState"),
    "adamax": ("ScaleByAdamState",),
    "nadam": ("ScaleByAdamState",),
    "radam": ("ScaleByAdamState",),
    "rprop": ("ScaleByRpropState",),
    "sgd": ("TraceState",),
    "rmsprop": (*_RMS, *_STDDEV, "TraceState"),
    "adagrad": ("ScaleByRssState",),
    "adadelta": ("ScaleByAdaDeltaState",),
    "adafactor": ("FactoredState", "EmaState"),
    "muon": ("MuonState",),
    "adabelief": ("ScaleByBeliefState",),
    "adan": ("ScaleByAdanState",),
    "adopt": ("ScaleByAdamState",),
    "lamb": ("ScaleByAdamState",),
    "lars": ("TraceState",),
    "lion": ("ScaleByLionState",),
    "novograd": ("ScaleByNovogradState",),
    "signum": ("EmaState",),
    "yogi": ("ScaleByAdamState",),
    "optimistic_gradient_descent": ("ScaleByOptimisticGradientState",),
    "optimistic_adam": ("ScaleByAdamState", "ScaleByOptimisticGradientState"),
    "acprop": ("ScaleByBeliefState",),
    "ademamix": ("ScaleByAdemamixState",),
    "simplified_ademamix": ("ScaleBySimplifiedAdEMAMixState",),
    "madgrad": ("MadgradState",),
    "sm3": ("ScaleBySM3State",),
    "cocob": ("COCOBState",),
    "dog": ("DoGState",),
    "dowg": ("DoWGState",),
    "dadapt_adamw": ("DAdaptAdamWState",),
    "prodigy": ("ProdigyState",),
    "sophia": ("SophiaState",),
    "mechanize": ("MechanicState",),
    "sam": ("SAMState",),
    "asam": ("SAMState",),
    "momo": ("MomoState",),
    "momo_adam": ("MomoAdamState",),
    "lbfgs": ("ScaleByLBFGSState", *_SEARCHES),
    "scale_by_backtracking_linesearch": ("ScaleByBacktrackingLinesearchState",),
    "scale_by_zoom_linesearch": ("ScaleByZoomLinesearchState",),
    "trace": ("TraceState",),
    "average_updates": ("EmaState",),
    "accumulate": ("MultiStepsState",),
    "schedule_free": ("ScheduleFreeState",),
    "skip_nonfinite": ("ApplyIfFiniteState",),
}
"""Which of optax's states a jopt transform takes its slots from."""

ADDED: dict[str, tuple[str, ...]] = {"projector": ("GaLoreState",)}
"""The same of slots that wrappers add to those of any optimizer."""

COUNTING: dict[str, tuple[str, ...]] = {
    "conditionally": ("ConditionallyTransformState", "ConditionallyMaskState"),
    "lookahead": ("LookaheadState",),
}
"""The wrappers whose count is not of the steps, and where optax has it."""

SQUARED = frozenset({("dog", "grad_norm"), ("dowg", "grad_norm"), ("dowg", "distance")})
"""The slots of which optax has the square."""
