"""Hydra's callbacks for jobs that train together: ``on_job_start`` and ``on_job_end`` of each.

Hydra calls the others, ``on_multirun_start`` and ``on_multirun_end``, itself.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mlp_study.sweep.plan import Cell

if TYPE_CHECKING:
    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import JobReturn
    from hydra.types import TaskFunction
    from omegaconf import DictConfig

    from mlp_study.sweep.composer import Composer
    from mlp_study.sweep.store import Store


class JobCallbacks:
    """Tells them of every run that a launch trains; does nothing where a config names none.

    All starts come before the first population trains, each end after its own population. Each job has its own copy of
    the callbacks, as it has under launchers with processes: they may keep what they learn at a start for the end.

    Args:
        callbacks: as ``HydraContext`` has them.
        task: what Hydra would call for each job.
        composer: composes a job's config.
    """

    def __init__(self, callbacks: Callbacks, task: TaskFunction, composer: Composer) -> None:
        self._callbacks, self._task, self._composer = callbacks, task, composer
        self._begun: dict[str, Callbacks] = {}

    def start(self, cells: Iterable[Cell], store: Store) -> None:
        """These runs are about to train, into the folders of ``store``."""
        for cell in cells if self._callbacks.callbacks else ():
            own = copy.deepcopy(self._callbacks)
            with self._as_job(cell, store) as config:
                own.on_job_start(config=config, task_function=self._task)
            self._begun[cell.run_id] = own

    def end(self, cells: Iterable[Cell], store: Store, returned: Callable[[Cell], JobReturn]) -> None:
        """Those of them that are finished, once each; ``returned`` gives a job's result."""
        for cell in cells if self._begun else ():
            if store.finished(cell.run_id) and (own := self._begun.pop(cell.run_id, None)) is not None:
                with self._as_job(cell, store) as config:
                    own.on_job_end(config=config, job_return=_plain(returned(cell), config))

    @contextlib.contextmanager
    def _as_job(self, cell: Cell, store: Store) -> Iterator[DictConfig]:
        """The job's config; within, it is also what ``HydraConfig`` says, as in Hydra's ``run_job``."""
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import open_dict, read_write

        config = self._composer.full(cell.overrides)
        with read_write(config), open_dict(config):
            config.hydra.job.id = config.hydra.job.num = cell.number
            config.hydra.runtime.output_dir = str(store.place(cell.run_id).absolute())
        hydra = HydraConfig.instance()
        before = hydra.cfg
        hydra.set_config(config)
        try:
            yield config
        finally:
            hydra.cfg = before


def _plain(found: JobReturn, config: DictConfig) -> JobReturn:
    """The result as Hydra's own launchers give it: a dataclass that can be pickled."""
    from hydra.core.utils import JobReturn
    from omegaconf import OmegaConf

    keys = [str(key) for key in config]
    return JobReturn(
        overrides=found.overrides,
        cfg=OmegaConf.masked_copy(config, [key for key in keys if key != "hydra"]),
        hydra_cfg=OmegaConf.masked_copy(config, ["hydra"]),
        working_dir=found.working_dir,
        task_name=str(config.hydra.job.name),
        status=found.status,
        _return_value=found._return_value,
    )
