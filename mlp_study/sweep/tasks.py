"""Which Hydra tasks are this project's training, and what their command does when a sweep of them has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mlp_study.config.schema import GROUPS

if TYPE_CHECKING:
    from omegaconf import DictConfig

_MARK = "trains_a_run_of_mlp_study"

Task = TypeVar("Task", bound=Callable[..., Any])


class Page(Protocol):
    """A finished page on a folder of runs, and the PNG of each of its figures by name."""

    @property
    def page(self) -> Path: ...  # noqa: D102

    @property
    def figures(self) -> Mapping[str, Path]: ...  # noqa: D102


MakePage = Callable[[Path, bool], Page | None]


def trains_runs(make_page: MakePage) -> Callable[[Task], Task]:
    """Mark a Hydra task as the project's training of one config, which the launcher may do for many at once.

    Args:
        make_page: makes the page on a sweep's folder when the sweep has ended. It takes the folder, and whether a page
            that is there already is made anew; it returns None if it made none.
    """

    def marked(task: Task) -> Task:
        setattr(task, _MARK, make_page)
        return task

    return marked


def is_training(task: Callable[..., Any] | None, master: DictConfig) -> bool:
    """Whether the task is the project's own training, on the project's own config."""
    return hasattr(task, _MARK) and set(GROUPS) <= set(map(str, master))


def page_at_end(task: Callable[..., Any], folder: Path, again: bool = True) -> Page | None:
    """The page on a sweep's folder, made by the command that the task belongs to."""
    make_page: MakePage = getattr(task, _MARK)
    return make_page(folder, again)


def is_grid(master: DictConfig) -> bool:
    """Whether the project's own sweeper made the jobs: then they are all there are, and not one batch of many."""
    return str(master.hydra.sweeper._target_).endswith(".PopulationSweeper")
