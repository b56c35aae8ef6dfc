"""One study, shared by every process that names it: who asks for which trials, what is told, what is given back."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.errors import ConfigError
from mlp_study.search.pruning import InFlight
from mlp_study.search.samplers import build_pruner, build_sampler
from mlp_study.search.settings import SearchSettings
from mlp_study.search.storage import Place, close_storage, open_storage, patiently, study_lock
from mlp_study.search.workers import Workers

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from mlp_study.search.space import Space

ABOUT = "mlp_study"  # the study's attribute with what must be the same when it is taken up again


class SharedStudy:
    """The study in its storage.

    Args:
        place: its storage.
        settings: the sweeper's.
        space: the search space.

    Raises:
        ConfigError: the storage cannot be reached, or the study is another one's.
        WriteError: the journal cannot be written.
    """

    def __init__(self, place: Place, settings: SearchSettings, space: Space, ignored: Iterable[str] = ()) -> None:
        self.place, self.settings, self.space = place, settings, space
        self._pruner = build_pruner(settings.pruner)
        self._sampler = build_sampler(
            settings.sampler, space, 0
        )  # its options are checked before the storage is touched
        self.storage = open_storage(place)
        about = described(settings, space, frozenset(ignored))
        self.study: optuna.Study = patiently(place, lambda: self._opened(about))
        self.workers = Workers(place, self.storage, self.study._study_id)
        self._begun: list[InFlight] = []  # of a batch that is not complete yet
        self.running = 0  # trials of other processes, as the last ``ask`` saw them: they may be given back

    def _opened(self, about: Mapping[str, Any]) -> optuna.Study:
        with study_lock(self.place, self.storage, self.settings.study_name):
            self._check(about)
            study = self._load(None)
            if ABOUT not in study.user_attrs:
                study.set_user_attr(ABOUT, about)
            return study

    def _check(self, about: Mapping[str, Any]) -> None:
        """Refuse a study of another direction or space."""
        import optuna

        try:
            found = optuna.load_study(study_name=self.settings.study_name, storage=self.storage)
        except KeyError:
            return
        name = f"study {self.settings.study_name!r} in {self.place.shown}"
        ours = [objective.direction for objective in self.settings.objectives]
        theirs = [direction.name.lower() for direction in found.directions]
        if theirs != ours:
            raise ConfigError(f"{name} has the direction {', '.join(theirs)}, here it is {', '.join(ours)}; {_OTHER}")
        recorded = found.user_attrs.get(ABOUT)
        if recorded is not None and recorded != json.loads(json.dumps(about)):
            raise ConfigError(f"{name} is another search: {_difference(recorded, about)}; {_OTHER}")

    def _load(self, sampler: Any) -> optuna.Study:
        import optuna

        return optuna.create_study(
            storage=self.storage,
            sampler=sampler,
            pruner=self._pruner,
            study_name=self.settings.study_name,
            directions=[objective.direction for objective in self.settings.objectives],
            load_if_exists=True,
        )

    @property
    def wanted(self) -> int:
        """How many trials the study shall have: no more than there are cells, for what tries each cell once."""
        if self.settings.sampler["name"] not in ("grid", "brute_force") or self.settings.custom_search_space:
            return self.settings.n_trials
        return int(min(self.settings.n_trials, self.space.size()))

    def ask(self) -> list[InFlight]:
        """The next batch: what dead processes have left, then new proposals; empty if none is missing.

        Batches begin at multiples of ``n_jobs`` and each trial has its own seed, so that a study that was killed
        proposes what it would have proposed undisturbed.
        """
        return patiently(self.place, self._ask)

    def _ask(self) -> list[InFlight]:
        from optuna.trial import TrialState

        with study_lock(self.place, self.storage, self.settings.study_name):
            self.give_back(self._begun)
            self._begun = []
            self.give_back(self.workers.orphans(self.trials(TrialState.RUNNING)))
            known = self.trials()
            self.running = sum(trial.state == TrialState.RUNNING for trial in known)
            left = [trial for trial in known if trial.state == TrialState.WAITING]
            jobs = self.settings.n_jobs
            new = -len(known) % jobs if left else jobs - len(known) % jobs
            missing = self.wanted - (len(known) - len(left))
            reported = {trial.number: set(trial.intermediate_values) for trial in left}
            batch = []
            for place in range(min(jobs, len(left) + new, missing)):
                number = left[place].number if place < len(left) else len(known) + place - len(left)
                self.study.sampler = self._sampler_of(number)
                asked = self._asked()
                self._begun.append(asked)
                self.workers.take([asked.trial])
                asked.reported = reported.get(asked.number, set())
                self._propose(asked)
                batch.append(asked)
            self._begun = []
            return sorted(batch, key=lambda asked: asked.number)

    def _sampler_of(self, number: int) -> Any:
        """The trial's sampler; a grid's cell follows from its number alone, and to list all cells takes time."""
        grid = self.settings.sampler["name"] == "grid"
        return self._sampler if grid else build_sampler(self.settings.sampler, self.space, number)

    def _asked(self) -> InFlight:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Heartbeat of storage")  # ``Workers`` sends it
            return InFlight(self.study.ask(), [], place=self.place)

    def _propose(self, asked: InFlight) -> None:
        asked.overrides = self.space.suggest(asked.trial)
        if self.settings.custom_search_space is not None:
            asked.overrides = extended(self.settings.custom_search_space, self.space, asked)

    def give_back(self, trials: Iterable[FrozenTrial | InFlight]) -> None:
        """These wait for a process again, with the values that they have; call it for one's own when interrupted.

        A server that is away is not waited for: it will find that this process is dead.
        """
        import optuna
        from optuna.trial import TrialState

        for trial in trials:
            trial_id = trial.trial._trial_id if isinstance(trial, InFlight) else trial._trial_id
            with contextlib.suppress(
                optuna.exceptions.UpdateFinishedTrialError, optuna.exceptions.StorageInternalError
            ):
                self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def tell(self, trial: InFlight, attributes: Mapping[str, Any], state: str, values: Sequence[float] | None) -> None:
        """Record how a trial ended: ``COMPLETE`` with its values, ``PRUNED`` or ``FAIL``.

        A trial that others have taken over, since this process gave no sign of life for minutes, is theirs to tell.
        """
        from optuna.trial import TrialState

        trial_id = trial.trial._trial_id

        def tell() -> None:
            with study_lock(self.place, self.storage, self.settings.study_name):
                if self.storage.get_trial(trial_id).state == TrialState.RUNNING:
                    for key, value in attributes.items():
                        self.storage.set_trial_user_attr(trial_id, key, value)
                    self.study.tell(trial.trial, None if values is None else list(values), TrialState[state])

        patiently(self.place, tell)
        self.workers.give_back([trial.number])

    def trials(self, *states: Any) -> list[FrozenTrial]:
        """All trials, or those in these states."""
        return patiently(self.place, lambda: self.study.get_trials(deepcopy=False, states=states or None))

    def close(self) -> None:
        """No more signs of life, and no connection."""
        self.workers.close()
        close_storage(self.storage)


_OTHER = "choose another hydra.sweeper.study_name, or another sweep_dir"


def described(settings: SearchSettings, space: Space, ignored: frozenset[str]) -> dict[str, Any]:
    """What the trials of one study have in common; ``ignored`` are settings that change no result."""
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
    for key in ours:
        there, here = theirs.get(key), ours[key]
        if there == json.loads(json.dumps(here)):
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            for name in {**there, **here}:
                if there.get(name) != here.get(name):
                    return f"{name} is {there.get(name, 'not searched')} there, {here.get(name, 'not searched')} here"
        if isinstance(there, list) and isinstance(here, list):
            only_there, only_here = [v for v in there if v not in here], [v for v in here if v not in there]
            return f"{key} {', '.join(only_there) or 'nothing'} there, {', '.join(only_here) or 'nothing'} here"
        return f"{key}={there} there, {here} here"
    return "it was written by another version"


def extended(name: str, space: Space, asked: InFlight) -> list[str]:
    """The overrides with what the user's own function has added to the trial, as Hydra's stock plugin has it.

    Raises:
        ConfigError: there is no such function, or it samples what is fixed.
    """
    from hydra.utils import get_method

    from mlp_study.search.space import shown

    try:
        function = get_method(name)
    except Exception as error:
        raise ConfigError(f"hydra.sweeper.custom_search_space={name} cannot be found: {error}") from error
    settings = dict(o.lstrip("+").split("=", 1) for o in asked.overrides if "=" in o)
    function(settings, asked.trial)
    ours = {parameter.name for parameter in space.parameters}
    added = {key: value for key, value in asked.trial.params.items() if key not in ours}
    twice = sorted(added.keys() & settings.keys())
    if twice:
        raise ConfigError(f"hydra.sweeper.custom_search_space={name} samples {', '.join(twice)}, which is fixed")
    return [*asked.overrides, *(f"{key}={shown(value)}" for key, value in added.items())]
