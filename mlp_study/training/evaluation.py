"""Evaluate a trained population: one result a member."""

from __future__ import annotations

import math

import torch

from mlp_study.training.module import PopulationModule
from mlp_study.training.probing import measure_ends
from mlp_study.training.results import MemberResult, Metrics, shares_of


def results_of(module: PopulationModule) -> list[MemberResult]:
    """Measure every member on the test images and at its end, and return the results in the caller's order."""
    order = module.data.order
    test_rows, predicted_KN = module.evaluate("test")
    lacking = _lacking(module)
    mlp = module.whole()
    finals = measure_ends(module, mlp, module.data.everyone)
    results: dict[int, MemberResult] = {}
    seconds, chance = module.seconds, _chance(module.data.images.test_labels_N)
    shares = shares_of(module.curves, seconds)
    for k, number in enumerate(order):
        curves = module.curves[k]
        metrics = {name: value for name, value in (curves[-1] if curves else {}).items() if "/" in name}
        metrics = lacking[k] | metrics | test_rows[k]
        outcome, cause = _outcome(module, k, metrics)
        metrics |= {
            "seconds": seconds,
            "seconds_share": shares[k],
            "train_seconds": module.train_seconds,
            "epochs": float(curves[-1]["epoch"]) if curves else 0.0,
            "parameters": float(mlp.count_parameters(k)),
            "test/chance": chance,
        }
        results[number] = MemberResult(
            config=module.configs[k],
            outcome=outcome,
            cause=cause,
            curves=curves,
            metrics=metrics,
            diagnostics=module.diagnostics[k] | ({"final": finals[k]} if finals[k] else {}),
            weights=mlp.state_of(k),
            population={"size": len(order), "index": number},
            device=str(module.device),
            predictions=predicted_KN[k],
        )
    return [results[number] for number in range(len(order))]


def _chance(labels_N: torch.Tensor) -> float:
    """The share of the most frequent class: what the best one answer to every image reaches."""
    return int(torch.as_tensor(labels_N).bincount().max()) / len(labels_N)


def _lacking(module: PopulationModule) -> list[Metrics]:
    """Measure what a member's last row lacks, as it diverged in mid-epoch or ended between two validations."""
    found: list[Metrics] = [{} for _ in module.configs]
    for part in ("train", "val"):
        if all(rows and f"{part}/accuracy" in rows[-1] for rows in module.curves):
            continue
        for k, row in enumerate(module.evaluate(part)[0]):
            found[k] |= row
    return found


def _outcome(module: PopulationModule, k: int, metrics: Metrics) -> tuple[str, str | None]:
    """How member k ended, and why; a network whose loss is no number has diverged, whoever noticed first."""
    if k in module.ended:
        return module.ended[k].outcome, module.ended[k].cause
    bad = [name for name in ("val/loss", "test/loss") if not math.isfinite(metrics[name])]
    return ("diverged", f"{bad[0]} became {metrics[bad[0]]} after the last step") if bad else ("completed", None)
