"""What the launcher gives back to a sweeper for each job: the validation accuracy, or the error it failed with."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus

from mlp_study.errors import StudyError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlp_study.sweep.fast_compose import Composer


class RunFailed(StudyError):
    """A job whose run is recorded as failed; raised when its return value is read."""


class MemberReturn(JobReturn):
    """A ``JobReturn`` whose configs are composed only if somebody asks for them: that takes longer than a small run."""

    def __init__(self, job: list[str], value: float | StudyError, composer: Composer) -> None:
        super().__init__(overrides=job, working_dir=str(Path.cwd()))
        self._composer = composer
        self.return_value = value
        self.status = JobStatus.FAILED if isinstance(value, StudyError) else JobStatus.COMPLETED

    @cached_property
    def _whole(self) -> DictConfig:
        return self._composer.full(self.overrides or ())

    def __getattribute__(self, name: str) -> Any:
        """``cfg`` and ``hydra_cfg`` on demand; the others are plain attributes."""
        if name not in ("cfg", "hydra_cfg"):
            return super().__getattribute__(name)
        from omegaconf import OmegaConf

        keys = [str(key) for key in self._whole if (key == "hydra") == (name == "hydra_cfg")]
        return OmegaConf.masked_copy(self._whole, keys)
