"""A study, shared by every process that names it: ask for trials, tell their results, give back what is unfinished."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState

from mlp_study.errors import ConfigError
from mlp_study.search.distributions import described as in_words
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
_OTHER = "choose another hydra.sweeper.study_name"  # a database is no sweep_dir's


class SharedStudy:
    """The study in its storage.

    Args:
        storage: not opened yet.
        settings: the sweeper's.
        space: the search space.
        ignored: names of settings that change no result.
        first: values of trials to try first, by the names of the parameters.
        extend: the user's own function, which adds parameters to a trial.

    Raises:
        ConfigError: the storage cannot be reached, or the study is another one's.
        WriteError: the journal cannot be written.
    """

    def __init__(
        self,
        storage: StudyStorage,
        settings: SearchSettings,
        space: Space,
        ignored: Iterable[str] = (),
        first: Sequence[Mapping[str, Any]] = (),
        extend: Callable[[optuna.Trial], object] | None = None,
    ) -> None:
        self.storage, self.settings, self.space, self.extend = storage, settings, space, extend
        pruner = build_pruner(settings.pruner)
        build_sampler(settings.sampler, space, 0)
        storage.open()  # after the options of both are checked
        about = described(settings, space, frozenset(ignored))
        self.study: optuna.Study = storage.patiently(lambda: self._opened(about, pruner, first))
        self._sampler = build_sampler(settings.sampler, self.space, 0)
        self.owners = TrialOwners(storage, self.study._study_id)
        self._begun: list[OwnTrial] = []  # of a batch that is not complete yet
        self.running = 0  # trials of other processes, as the last ``ask`` saw them: they may be given back

    def _opened(self, about: Mapping[str, Any], pruner: Any, first: Sequence[Mapping[str, Any]]) -> optuna.Study:
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
            self.space = as_recorded(self.space, study.get_trials(deepcopy=False), f"{self._name}; {_OTHER}")
            if ABOUT not in study.user_attrs:
                study.set_user_attr(ABOUT, about)
            for values in first:
                study.enqueue_trial(dict(values), skip_if_exists=True)
            return study

    @property
    def _name(self) -> str:
        return f"study {self.settings.study_name!r} in {self.storage.shown}"

    def _check(self, found: optuna.Study, about: Mapping[str, Any]) -> None:
        """Refuse a study of another direction or space."""
        ours = [objective.direction for objective in self.settings.objectives]
        theirs = [direction.name.lower() for direction in found.directions]
        if theirs != ours:
            raise ConfigError(
                f"{self._name} has the direction {', '.join(theirs)}, here it is {', '.join(ours)}; {_OTHER}"
            )
        recorded = found.user_attrs.get(ABOUT)
        if recorded is not None and recorded != json.loads(json.dumps(about)):
            raise ConfigError(f"{self._name} is another search: {_difference(recorded, about)}; {_OTHER}")

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
        if self.extend is not None:
            self.extend(own.trial)
            own.overrides += added_overrides(self.space, own)

    def give_back(self, trials: Iterable[FrozenTrial | OwnTrial]) -> None:
        """Let these trials wait for a process again, with the values that they have.

        A server that is away is not waited for: it will find that this process is dead.
        """
        for trial in trials:
            found = trial.trial if isinstance(trial, OwnTrial) else trial
            with contextlib.suppress(UpdateFinishedTrialError, StorageInternalError):
                self.storage.optuna.set_trial_state_values(found._trial_id, TrialState.WAITING)

    def tell(
        self,
        own: OwnTrial,
        attributes: Mapping[str, Any],
        state: str,
        values: Sequence[float] | None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Record how a trial ended: ``COMPLETE`` with its values, ``PRUNED`` or ``FAIL``; and what constraints it has.

        A trial that others have taken over, since this process gave no sign of life for minutes, is theirs to tell.
        """
        storage, trial_id = self.storage.optuna, own.trial._trial_id

        def tell() -> None:
            with self.storage.locked(self.settings.study_name):
                if storage.get_trial(trial_id).state == TrialState.RUNNING:
                    for key, value in attributes.items():
                        storage.set_trial_user_attr(trial_id, key, value)
                    for text, violation in (violations or {}).items():
                        if text not in own.trial.constraints:  # as after a server that was away in the middle of this
                            own.trial.set_constraint(text, violation)
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
        **({"constraints": [constraint.text for constraint in settings.constraints]} if settings.constraints else {}),
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


def as_recorded(space: Space, trials: Sequence[FrozenTrial], study: str) -> Space:
    """Return the space with the distributions that the study has: choices as text are those of an older version.

    Raises:
        ConfigError: Optuna cannot continue the study with this space; the message ends with ``study``.
    """
    recorded = {name: found for trial in trials for name, found in trial.distributions.items()}
    parameters = []
    for parameter in space.parameters:
        ours = parameter.distribution
        theirs = recorded.get(parameter.name, ours)
        if in_words(theirs) == in_words(ours):
            parameters.append(dataclasses.replace(parameter, distribution=theirs))
            continue
        try:
            check_distribution_compatibility(theirs, ours)
        except ValueError:
            raise ConfigError(f"{parameter.name} is {in_words(ours)} here, but {in_words(theirs)} in {study}") from None
        parameters.append(parameter)
    return dataclasses.replace(space, parameters=tuple(parameters))


def added_overrides(space: Space, own: OwnTrial) -> list[str]:
    """Return the overrides of the parameters that the user's own function has added to a trial.

    Raises:
        ConfigError: it samples what is fixed.
    """
    ours = {parameter.name for parameter in space.parameters}
    added = {key: value for key, value in own.trial.params.items() if key not in ours}
    fixed = {override.lstrip("+").partition("=")[0] for override in own.overrides}
    if twice := sorted(added.keys() & fixed):
        raise ConfigError(f"hydra.sweeper.custom_search_space samples {', '.join(twice)}, which is fixed")
    return [f"{key}={override_text(value)}" for key, value in added.items()]
