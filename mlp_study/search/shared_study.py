"""A study, shared by every process that names it: ask for trials, tell their results, give back what is unfinished."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState

from mlp_study.errors import ConfigError
from mlp_study.search.distributions import override_text
from mlp_study.search.pruning import OwnTrial
from mlp_study.search.samplers import build_pruner, build_sampler
from mlp_study.search.trial_owners import TrialOwners

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from mlp_study.search.space import Space
    from mlp_study.search.storage import StudyStorage
    from mlp_study.search.sweeper_settings import SearchSettings

ABOUT = "mlp_study"  # the study's attribute with what must be the same when it is taken up again
_OTHER = "choose another hydra.sweeper.study_name, or another sweep_dir"


class SharedStudy:
    """The study in its storage.

    Args:
        storage: not opened yet.
        settings: the sweeper's.
        space: the search space.
        ignored: names of settings that change no result.

    Raises:
        ConfigError: the storage cannot be reached, or the study is another one's.
        WriteError: the journal cannot be written.
    """

    def __init__(
        self, storage: StudyStorage, settings: SearchSettings, space: Space, ignored: Iterable[str] = ()
    ) -> None:
        self.storage, self.settings, self.space = storage, settings, space
        pruner, self._sampler = build_pruner(settings.pruner), build_sampler(settings.sampler, space, 0)
        storage.open()  # after the options of both are checked
        about = described(settings, space, frozenset(ignored))
        self.study: optuna.Study = storage.patiently(lambda: self._opened(about, pruner))
        self.owners = TrialOwners(storage, self.study._study_id)
        self._begun: list[OwnTrial] = []  # of a batch that is not complete yet
        self.running = 0  # trials of other processes, as the last ``ask`` saw them: they may be given back

    def _opened(self, about: Mapping[str, Any], pruner: Any) -> optuna.Study:
        name = self.settings.study_name
        with self.storage.locked(name):
            with contextlib.suppress(KeyError):  # there is none yet
                self._check(optuna.load_study(study_name=name, storage=self.storage.optuna), about)
            study = optuna.create_study(
                storage=self.storage.optuna,
                pruner=pruner,
                study_name=name,
                directions=[objective.direction for objective in self.settings.objectives],
                load_if_exists=True,
            )
            if ABOUT not in study.user_attrs:
                study.set_user_attr(ABOUT, about)
            return study

    def _check(self, found: optuna.Study, about: Mapping[str, Any]) -> None:
        """Refuse a study of another direction or space."""
        name = f"study {self.settings.study_name!r} in {self.storage.shown}"
        ours = [objective.direction for objective in self.settings.objectives]
        theirs = [direction.name.lower() for direction in found.directions]
        if theirs != ours:
            raise ConfigError(f"{name} has the direction {', '.join(theirs)}, here it is {', '.join(ours)}; {_OTHER}")
        recorded = found.user_attrs.get(ABOUT)
        if recorded is not None and recorded != json.loads(json.dumps(about)):
            raise ConfigError(f"{name} is another search: {_difference(recorded, about)}; {_OTHER}")

    @property
    def wanted(self) -> int:
        """How many trials the study shall have: no more than there are cells, for what tries each cell once."""
        if self.settings.sampler["name"] not in ("grid", "brute_force") or self.settings.custom_search_space:
            return self.settings.n_trials
        return int(min(self.settings.n_trials, self.space.size()))

    def ask(self) -> list[OwnTrial]:
        """Return the next batch: what dead processes have left, then new proposals; empty if none is missing.

        Batches begin at multiples of ``n_jobs`` and each trial has its own seed, so that a study that was killed
        proposes what it would have proposed undisturbed.
        """
        return self.storage.patiently(self._ask)

    def _ask(self) -> list[OwnTrial]:
        with self.storage.locked(self.settings.study_name):
            self.give_back(self._begun)
            self._begun = []
            self.give_back(self.owners.orphans(self.trials(TrialState.RUNNING)))
            known = self.trials()
            self.running = sum(trial.state == TrialState.RUNNING for trial in known)
            left = [trial for trial in known if trial.state == TrialState.WAITING]
            jobs = self.settings.n_jobs
            new = -len(known) % jobs if left else jobs - len(known) % jobs
            missing = self.wanted - (len(known) - len(left))
            numbers = [*(trial.number for trial in left), *range(len(known), len(known) + new)]
            reported = {trial.number: set(trial.intermediate_values) for trial in left}
            for number in numbers[: min(jobs, missing)]:
                self._begin(number, reported.get(number, set()))
            batch, self._begun = self._begun, []
            return sorted(batch, key=lambda own: own.number)

    def _begin(self, number: int, reported: set[int]) -> None:
        """Take the next trial, which will have this number."""
        grid = self.settings.sampler["name"] == "grid"  # its cell follows from its number; to list all takes time
        self.study.sampler = self._sampler if grid else build_sampler(self.settings.sampler, self.space, number)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Heartbeat of storage")  # ``TrialOwners`` sends it
            own = OwnTrial(self.study.ask(), [], reported=reported, storage=self.storage)
        self._begun.append(own)
        self.owners.take(own.trial)
        self._propose(own)

    def _propose(self, own: OwnTrial) -> None:
        own.overrides = self.space.suggest(own.trial)
        if self.settings.custom_search_space is not None:
            own.overrides = extended(self.settings.custom_search_space, self.space, own)

    def give_back(self, trials: Iterable[FrozenTrial | OwnTrial]) -> None:
        """Let these trials wait for a process again, with the values that they have.

        A server that is away is not waited for: it will find that this process is dead.
        """
        for trial in trials:
            found = trial.trial if isinstance(trial, OwnTrial) else trial
            with contextlib.suppress(UpdateFinishedTrialError, StorageInternalError):
                self.storage.optuna.set_trial_state_values(found._trial_id, TrialState.WAITING)

    def tell(self, own: OwnTrial, attributes: Mapping[str, Any], state: str, values: Sequence[float] | None) -> None:
        """Record how a trial ended: ``COMPLETE`` with its values, ``PRUNED`` or ``FAIL``.

        A trial that others have taken over, since this process gave no sign of life for minutes, is theirs to tell.
        """
        storage, trial_id = self.storage.optuna, own.trial._trial_id

        def tell() -> None:
            with self.storage.locked(self.settings.study_name):
                if storage.get_trial(trial_id).state == TrialState.RUNNING:
                    for key, value in attributes.items():
                        storage.set_trial_user_attr(trial_id, key, value)
                    self.study.tell(own.trial, None if values is None else list(values), TrialState[state])

        self.storage.patiently(tell)
        self.owners.give_back(own.number)

    def trials(self, *states: Any) -> list[FrozenTrial]:
        """Return all trials, or those in these states."""
        return self.storage.patiently(lambda: self.study.get_trials(deepcopy=False, states=states or None))

    def close(self) -> None:
        """Give no more signs of life, and close the connections."""
        self.owners.close()
        self.storage.close()


def described(settings: SearchSettings, space: Space, ignored: frozenset[str]) -> dict[str, Any]:
    """Describe what the trials of one study have in common; ``ignored`` are settings that change no result."""
    names = ("hydra", "sweep_dir", "sweeps", *ignored)
    fixed = [o.lstrip("+") for o in space.fixed]
    kept = sorted(o for o in fixed if o.partition("=")[0] not in names and not o.startswith(("hydra.", "wandb.")))
    return {
        "objective": [objective.metric for objective in settings.objectives],
        "space": space.described(),
        "fixed": kept,
        "repeats": settings.repeats,
        "aggregate": settings.objectives[0].aggregate if settings.repeats > 1 else None,
        "diverged": [str(objective.diverged) for objective in settings.objectives],
        "custom_search_space": settings.custom_search_space,
    }


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Return the first setting in which two descriptions differ."""
    there, here = _flat(theirs), _flat(ours)
    for key in {**there, **here}:
        if there.get(key) != here.get(key):
            return f"{key} is {there.get(key, 'not set')} there, {here.get(key, 'not set')} here"
    return "it was written by another version"


def _flat(about: Mapping[str, Any]) -> dict[str, str]:
    fixed = dict(override.partition("=")[::2] for override in about.get("fixed", ()))
    rest = {key: str(value) for key, value in about.items() if key not in ("space", "fixed")}
    return {**rest, **about.get("space", {}), **fixed}


def extended(name: str, space: Space, own: OwnTrial) -> list[str]:
    """Return the overrides with what the user's own function has added to the trial, as Hydra's stock plugin has it.

    Raises:
        ConfigError: there is no such function, or it samples what is fixed.
    """
    from hydra.utils import get_method

    try:
        function = get_method(name)
    except Exception as error:
        raise ConfigError(f"hydra.sweeper.custom_search_space={name} cannot be found: {error}") from error
    settings = dict(o.lstrip("+").split("=", 1) for o in own.overrides if "=" in o)
    function(settings, own.trial)
    ours = {parameter.name for parameter in space.parameters}
    added = {key: value for key, value in own.trial.params.items() if key not in ours}
    if twice := sorted(added.keys() & settings.keys()):
        raise ConfigError(f"hydra.sweeper.custom_search_space={name} samples {', '.join(twice)}, which is fixed")
    return [*own.overrides, *(f"{key}={override_text(value)}" for key, value in added.items())]
