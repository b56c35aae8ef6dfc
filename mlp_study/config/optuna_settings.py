"""Hydra's entries for ``hydra/sweeper=optuna``: its settings, and Optuna's samplers and pruners with their options.

An option's default stands in Optuna only: here every option is null, which means Optuna's own default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_NSGA = ("population_size", "mutation", "mutation_prob", "crossover", "crossover_prob", "swapping_prob")
_TPE = ("consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "n_startup_trials")
_CMA = ("x0", "sigma0", "n_startup_trials", "independent_sampler", "warn_independent_sampling")
_MEDIAN = ("n_startup_trials", "n_warmup_steps", "interval_steps", "n_min_trials")

SAMPLERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tpe": (
        "TPESampler",
        (*_TPE, "n_ei_candidates", "gamma", "multivariate", "group", "warn_independent_sampling", "constant_liar"),
    ),
    "gp": (
        "GPSampler",
        ("independent_sampler", "n_startup_trials", "deterministic_objective", "warn_independent_sampling"),
    ),
    "cmaes": (
        "CmaEsSampler",
        (
            *_CMA,
            "consider_pruned_trials",
            "restart_strategy",
            "popsize",
            "inc_popsize",
            "use_separable_cma",
            "with_margin",
            "lr_adapt",
        ),
    ),
    "random": ("RandomSampler", ()),
    "qmc": (
        "QMCSampler",
        ("qmc_type", "scramble", "independent_sampler", "warn_asynchronous_seeding", "warn_independent_sampling"),
    ),
    "grid": ("GridSampler", ()),
    "brute_force": ("BruteForceSampler", ("avoid_premature_stop",)),
    "nsgaii": ("NSGAIISampler", _NSGA),
    "nsgaiii": ("NSGAIIISampler", (*_NSGA, "reference_points", "dividing_parameter")),
}
"""Name -> Optuna's class, and its options beside ``seed``. What takes a Python object is left out: ``weights``,
``constraints_func``, ``source_trials`` and NSGA's strategies."""

PRUNERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "none": ("NopPruner", ()),
    "median": ("MedianPruner", _MEDIAN),
    "percentile": ("PercentilePruner", ("percentile", *_MEDIAN)),
    "successive_halving": (
        "SuccessiveHalvingPruner",
        ("min_resource", "reduction_factor", "min_early_stopping_rate", "bootstrap_count"),
    ),
    "hyperband": ("HyperbandPruner", ("min_resource", "max_resource", "reduction_factor", "bootstrap_count")),
    "patient": ("PatientPruner", ("wrapped_pruner", "patience", "min_delta")),
    "wilcoxon": ("WilcoxonPruner", ("p_threshold", "n_startup_steps")),
}
"""Name -> Optuna's class, and its options."""


@dataclass
class OptunaConfig:
    """``hydra/sweeper=optuna``; the keys down to ``custom_search_space`` mean what they mean in Hydra's stock plugin.

    Three defaults differ from the stock plugin's: ``direction`` (there ``minimize``; a task that is no training of this
    project is minimized here too), ``n_jobs`` (there 2) and ``max_failure_rate`` (there 0: one failure ends the study).

    Attributes:
        sampler: a sampler's name, or a mapping with its options.
        direction: ``maximize`` or ``minimize``, a list for several objectives; null: as the objective's nature is.
        study_name: the study's name in the storage; null: ``mlp_study``.
        storage: null: a journal in the sweep's folder; else the path of a journal, or a URL such as sqlite:///study.db;
            ``${oc.env:NAME}`` takes it from an environment variable, for a URL with a password.
        n_trials: trials of the whole study, whichever process runs them.
        n_jobs: trials that this process trains at a time, as one batch.
        max_failure_rate: the part of a batch that may fail without ending the study; null: all.
        params: the search space, a sweep for each key; the command line adds to it and wins over it.
        custom_search_space: dotted name of a function (sweep's config, trial) that adds parameters to a trial. A config
            cannot run code by itself: the environment variable MLP_STUDY_CUSTOM_SEARCH_SPACE must hold the same name.
        enqueue: trials to try first, each a mapping such as ``{optimizer.lr: 0.1}``, or ``defaults`` for the config's
            own values. What a mapping leaves out is proposed by the sampler.
        timeout: seconds after which this process begins no further batch; the same command goes on.
        constraints: what a trial must fulfil to be the best, such as ``parameters<=50000``: a recorded metric, ``<=``
            or ``>=``, and a number. Of several repeats the worst counts. tpe, gp, nsgaii and nsgaiii look for trials
            that fulfil them.
        conditions: what only some choices have: ``{"optimizer=adam": {"optimizer.eps": "interval(1e-8,1e-2)"}}``.
        objective: a recorded metric, or a list of them; null: val/accuracy. ``seconds`` are the run's own part of its
            population's.
        diverged: a diverged run's value: ``worst``, ``fail``, or a number.
        repeats: seeds that each trial is trained with.
        aggregate: of the repeats' values the ``mean``, ``median``, ``worst``, or ``lower`` (the 95 % confidence bound).
        pruner: a pruner's name, or a mapping with its options.
    """

    _target_: str = "hydra_plugins.mlp_study.OptunaSweeper"
    _recursive_: bool = False  # a name is looked up in the tables above; nothing is imported for it
    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": "none"}])
    sampler: Any = None
    direction: Any = None
    study_name: str | None = None
    storage: Any = None
    n_trials: int = 20
    n_jobs: int = 8
    max_failure_rate: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    custom_search_space: str | None = None
    enqueue: list[Any] = field(default_factory=list)
    timeout: float | None = None
    constraints: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    objective: Any = None
    diverged: Any = "worst"
    repeats: int = 1
    aggregate: str = "mean"
    pruner: Any = None


def store_search_configs() -> None:
    """Make the sweeper, its samplers and its pruners known to Hydra."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="optuna", node=OptunaConfig, provider="mlp_study")
    for group, table in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        for name, (_, options) in table.items():
            node = {"name": name, **({"seed": None} if group == "sampler" else {}), **dict.fromkeys(options)}
            store.store(group=f"hydra/sweeper/{group}", name=name, node=node, provider="mlp_study")
