"""What Optuna costs a trial beside its training: propose, look after it, report, tell; in seconds a trial."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

SPACE = ("activation=relu,tanh,sigmoid", "optimizer.lr=tag(log,interval(1e-4,1))", "data.scale=none,unit,standard")


def prepare(trials: int, **sweeper: Any) -> tuple[Callable[[], float], None]:
    """(run a study of so many trials that train nothing and return its seconds a trial, no accuracy)."""
    from omegaconf import OmegaConf

    from mlp_study.config.optuna_settings import OptunaConfig
    from mlp_study.search.shared_study import SharedStudy
    from mlp_study.search.space import read_space
    from mlp_study.search.storage import StudyStorage
    from mlp_study.search.sweeper import quiet_optuna
    from mlp_study.search.sweeper_settings import read_settings

    node: Any = OmegaConf.to_container(OmegaConf.structured(OptunaConfig(n_trials=trials, **sweeper)))
    settings, space = read_settings(node), read_space({}, SPACE, {})

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder, quiet_optuna():
            study = SharedStudy(StudyStorage(None, Path(folder)), settings, space)
            start = perf_counter()
            while batch := study.ask():
                for trial in batch:
                    value = 1.0 / (1 + trial.trial.params["optimizer.lr"])
                    if settings.prunes:
                        trial.report(value, 1)
                    study.tell(trial, {"overrides": trial.overrides, "run_ids": ["0"]}, "COMPLETE", [value])
            seconds = perf_counter() - start
            study.close()
        return seconds / trials

    return run, None
