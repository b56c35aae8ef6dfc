"""What a training is for, and how well it does: skill against the best constant prediction on the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

RARE = 0.8  # share of the largest class from which on accuracy says little, and the classes' mean recall is used
FEW = 30  # examples: with fewer, a plain model's cross-validation says little
MOST = 2000  # examples that plain models are fitted to
SEPARATE = 64  # columns up to which trees are tried, too


@dataclass(frozen=True)
class Task:
    """How outputs and targets are compared.

    Attributes:
        kind: ``classes`` (whole numbers), ``one-hot``, ``binary`` (one output), ``labels`` (several yes or no) or
            ``values``.
        values: the two values of a binary target, or the smallest class.
        threshold: above which an output means the larger of two values.
        names: of classes that were words.
    """

    kind: str
    values: tuple[float, ...] = (0.0, 1.0)
    threshold: float = 0.5
    names: tuple[Any, ...] = ()

    @property
    def classifies(self) -> bool:
        """Whether it is about classes, of which each example has one."""
        return self.kind in ("classes", "one-hot", "binary")

    def truth(self, target: Tensor) -> Tensor:
        """The targets as classes from 0 [N], 0/1 labels [N, L] or values [N, D]."""
        if self.kind == "one-hot":
            return target.argmax(1).flatten()
        if self.kind == "classes":
            return target.long().flatten()
        if self.kind == "binary":
            return (target.flatten().float() > sum(self.values) / 2).long()
        return target.reshape(len(target), -1).float()

    def guess(self, output: Tensor) -> Tensor:
        """The outputs in the terms of ``truth``."""
        if self.kind in ("classes", "one-hot"):
            return output.argmax(1).flatten()
        if self.kind == "binary":
            return (output.flatten() > self.threshold).long()
        flat = output.reshape(len(output), -1)
        return (flat > self.threshold).float() if self.kind == "labels" else flat.float()

    def answers(self, output: Tensor) -> Any:
        """Predictions in the target's own terms: class numbers or names, values, or 0/1 labels."""
        guess = self.guess(output)
        if self.names and self.classifies:
            return np.asarray(self.names)[guess.cpu().numpy()]
        if self.kind == "binary":
            low, high = self.values
            return guess if (low, high) == (0, 1) else torch.tensor([low, high], device=guess.device)[guess]
        if self.kind == "classes":
            return (guess + int(self.values[0])).reshape(len(output), *output.shape[2:])
        return guess

    def skill(self, output: Tensor, target: Tensor) -> float:  # noqa: PLR0911 - one for each kind
        """0 for the best constant prediction and for a worse one, 1 for a perfect one; 0 where outputs are not finite.

        Accuracy (or mean recall, where a class is rare) above the largest class's share, over what can be gained; R²
        for values.
        """
        if not torch.isfinite(output).all() or not len(output):
            return 0.0
        truth, guess = self.truth(target), self.guess(output)
        if truth.shape != guess.shape:
            return 0.0
        if self.kind == "values":
            return _explained(truth, guess)
        if self.kind == "labels":
            share_L = truth.mean(0)
            return _above((truth == guess).float().mean().item(), torch.maximum(share_L, 1 - share_L).mean().item())
        shares = truth.bincount().double() / len(truth)
        present = shares.nonzero().flatten()
        if len(present) < 2:
            return 0.0
        if shares.max() < RARE:
            return _above((truth == guess).float().mean().item(), shares.max().item())
        recalls = [(guess[truth == c] == c).float().mean().item() for c in present.tolist()]
        return _above(sum(recalls) / len(recalls), 1 / len(recalls))

    def signal(self, output: Tensor, target: Tensor) -> float:
        """How much outputs tell of targets, whatever their scale and offset: the mean squared correlation, 0 to 1.

        It rises before the first answer changes, so that beginnings of trainings can be compared.
        """
        if not torch.isfinite(output).all() or len(output) < 2:
            return 0.0
        truth = self.truth(target)
        flat = output.reshape(len(output), -1).double()
        if self.kind in ("classes", "one-hot"):
            if output.ndim > 2 or int(truth.max()) >= flat.shape[1]:
                return 0.0
            truth = torch.nn.functional.one_hot(truth, flat.shape[1])
        wanted = truth.reshape(len(output), -1).double()
        if wanted.shape != flat.shape:
            return 0.0
        a, b = flat - flat.mean(0), wanted - wanted.mean(0)
        size = a.norm(dim=0) * b.norm(dim=0)
        kept = b.norm(dim=0) > 0
        low = 1e-7 * flat.abs().amax(0).clamp_min(1e-30) * math.sqrt(len(flat))
        square = torch.where(a.norm(dim=0) > low, (a * b).sum(0) / size.clamp_min(1e-300), 0.0) ** 2
        return square[kept].mean().item() if kept.any() else 0.0


def _above(reached: float, constant: float) -> float:
    return max(0.0, (reached - constant) / (1 - constant)) if constant < 1 else 0.0


def _explained(truth: Tensor, guess: Tensor) -> float:
    """The share of the values' variance that is explained: each column's own, weighted by the column's deviation.

    Of a picture, pixels that hardly change count little; a column that is worse than its mean counts as 0.
    """
    t, g = truth.double(), guess.double()
    total = ((t - t.mean(0)) ** 2).sum(0)
    kept = total > 0
    if not kept.any():
        return 0.0
    shares = (1 - ((t - g) ** 2).sum(0)[kept] / total[kept]).clamp_min(0.0)
    weights = total[kept].sqrt()
    return ((shares * weights).sum() / weights.sum()).item()


def task_of(  # noqa: PLR0911 - one for each kind
    output: Tensor, target: Tensor, loss_kind: str | None, names: tuple[Any, ...] = ()
) -> Task | None:
    """What the targets are, by their type, values and shape beside the output's; None where it is not known.

    Args:
        output: of the model for all of ``target``'s examples.
        target: as the loss gets it.
        loss_kind: see ``observe.LOSSES``: says whether outputs are probabilities or logits.
        names: of classes that were words.
    """
    if not len(output) or not output.ndim or not target.ndim or len(output) != len(target):
        return None
    threshold = 0.0 if loss_kind in ("bce_logits", "hinge") else 0.5
    several = output.ndim > 1 and output.shape[1] > 1
    whole = not target.is_floating_point() or bool((target == target.round()).all())
    if several and target.numel() * output.shape[1] == output.numel() and target.ndim < output.ndim and whole:
        return Task("classes", (0.0,), names=names)
    if several and target.numel() == len(target) and not target.is_floating_point():
        return Task("classes", (0.0,), names=names)
    numbers = target.flatten().unique()[:3].tolist() if whole else []
    one = output.numel() == len(output)
    if one and target.numel() == len(target) and (loss_kind in ("bce", "bce_logits") or len(numbers) == 2):
        low, high = (numbers[0], numbers[1]) if len(numbers) == 2 else (0.0, 1.0)
        middle = 0.0 if loss_kind in ("bce_logits", "hinge") else (low + high) / 2
        return Task("binary", (low, high), middle, names)
    if several and target.shape == output.shape and set(numbers) <= {0, 1} and whole:
        alone = bool((target.flatten(1).sum(1) == 1).all()) and loss_kind not in ("bce", "bce_logits")
        once = bool((target.flatten(1).sum(1) == 1).all()) and output.ndim == 2 and output.shape[1] > 2
        return (
            Task("one-hot", names=names)
            if output.ndim == 2 and (alone or once)
            else Task("labels", (0.0, 1.0), threshold)
        )
    if loss_kind in ("ce", "nll") and several and target.shape == output.shape:
        return Task("one-hot", names=names)
    return Task("values") if target.numel() == output.numel() or output.numel() == len(output) else None


@dataclass(frozen=True)
class Reference:
    """What plain models reach on the same examples, in cross-validation."""

    skill: float = 0.0
    model: str = "a constant guess"
    known: bool = False


def reference(x: Tensor, target: Tensor, task: Task | None) -> Reference:
    """The best of a linear model, the nearest neighbours and boosted trees, cross-validated on ``MOST`` examples.

    It says what there is to learn. Unknown where inputs are no vectors of numbers or examples are too few.
    """
    n = len(x)
    if task is None or n < 6 or (x.ndim > 2 and x[0].numel() > 4096) or not x.is_floating_point() or x.shape[1:] == ():
        return Reference()
    x_NI = x.flatten(1).double().cpu().numpy()
    truth = task.truth(target).cpu().numpy()
    if task.classifies and truth.ndim == 1 and len(truth) != n:
        return Reference()
    if not np.isfinite(x_NI).all():
        return Reference()
    if task.classifies and len(np.unique(truth)) < 2:
        return Reference(0.0, "one class", True)
    chosen = np.random.default_rng(0).permutation(n)[:MOST]
    x_NI, truth = x_NI[chosen], truth[chosen]
    best = Reference(0.0, "a constant guess", n >= FEW)
    for name, fit in _plain(x_NI.shape[1], task, truth):
        skill = _cross_validated(fit, x_NI, truth, task)
        if skill > best.skill:
            best = replace(best, skill=skill, model=name, known=True)
    return best


def _cross_validated(model: Any, x_NI: Any, truth: Any, task: Task) -> float:
    import warnings

    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(3 if len(x_NI) >= FEW else min(len(x_NI), 7), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = torch.as_tensor(cross_val_predict(model, x_NI, truth, cv=folds))
        except ValueError:  # a fold with one class
            return 0.0
    wanted = torch.as_tensor(truth)
    if task.kind == "labels":
        return replace(task, threshold=0.5).skill(found.reshape(wanted.shape).float(), wanted)
    if task.kind == "values":
        return task.skill(found.reshape(wanted.shape).float(), wanted)
    plain = Task("classes")
    hot = torch.nn.functional.one_hot(found.long(), int(max(found.max(), wanted.max())) + 1).float()
    return plain.skill(hot, wanted)


def _plain(columns: int, task: Task, truth: Any) -> list[tuple[str, Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
    from sklearn.multioutput import MultiOutputClassifier
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    few = len(truth) >= 100 and columns <= SEPARATE
    if task.kind == "values":
        found: list[tuple[str, Any]] = [
            ("a linear model", Ridge(1e-3)),
            ("the nearest neighbours", KNeighborsRegressor(3)),
        ]
        if few and truth.shape[1] == 1:
            found.append(("boosted trees", HistGradientBoostingRegressor(max_iter=60)))
            return [(name, _Flat(make_pipeline(StandardScaler(), model))) for name, model in found]
        return [(name, make_pipeline(StandardScaler(), model)) for name, model in found]
    linear = LogisticRegression(max_iter=100) if columns <= SEPARATE else RidgeClassifier(columns / 10)
    balanced = task.classifies and np.bincount(truth).max() / len(truth) >= RARE
    if balanced:
        linear.set_params(class_weight="balanced")
    found = [("a linear model", linear), ("the nearest neighbours", KNeighborsClassifier(3))]
    if few and (task.kind == "labels" or truth.max() < 4):
        weight = "balanced" if balanced else None
        found.append(("boosted trees", HistGradientBoostingClassifier(max_iter=40, class_weight=weight)))
    several = MultiOutputClassifier if task.kind == "labels" else (lambda model: model)
    return [(name, several(make_pipeline(StandardScaler(), model))) for name, model in found]


def _Flat(model: Any) -> Any:
    """The regressor for targets [N, 1], standardised on the way."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(model, transformer=StandardScaler())
