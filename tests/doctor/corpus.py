"""Trainings as plain PyTorch with what they truly reach, and the doctor's score on them.

    python -m tests.doctor.corpus list
    python -m tests.doctor.corpus truth [IDS]          trains each with five seeds and writes truths.json
    python -m tests.doctor.corpus score [--held] [IDS] asks the doctor about each and trains its best fix

IDS are ids, kinds, or beginnings of ids. `score` asks about the open cases, with --held about those kept aside.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from tests.doctor import cases_data, cases_modules, cases_network, cases_recipe, forum
from tests.doctor.measuring import GOOD, Case, explained, judged, truth

MODULES = (cases_network, cases_data, cases_recipe, cases_modules, forum)
CASES: dict[str, Case] = {c.id: c for module in MODULES for c in module.CASES}
TOLERANCE = 0.15  # of skill, between what a fix is said to reach and what its training reaches
FILE = Path(__file__).with_name("truths.json")


def truths() -> dict[str, dict[str, Any]]:
    """Return what training showed, by case."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def chosen(ids: list[str], held: bool | None = None) -> list[Case]:
    """Return the cases that these words name; `held` chooses one side."""
    cases = [c for c in CASES.values() if not ids or any(c.id == i or c.id.startswith(i) for i in ids)]
    return cases if held is None else [c for c in cases if c.held == held]


def remake(ids: list[str]) -> None:
    """Measure the truths of these cases."""
    known = {k: v for k, v in truths().items() if k in CASES}
    for case in chosen(ids):
        known[case.id] = truth(case)
        print(case.id, json.dumps(known[case.id]), flush=True)
    write(known)


def write(known: dict[str, dict[str, Any]]) -> None:
    """Write truths.json, a line for each case."""
    lines = ",\n".join(f'"{id}": {json.dumps(known[id])}' for id in CASES if id in known)
    FILE.write_text(f"{{\n{lines}\n}}\n")


def verdicts(case: Case, said: dict[str, Any], known: dict[str, Any]) -> dict[str, bool]:
    """What counts: the verdict, a right cause, a best fix that repairs and keeps its promise. Only what applies."""
    true, best = judged(case, known)
    refused = "refused" in said
    counted = {"refused": refused and not (case.refused and true == "fails")}
    if true != "partial":
        counted["detected" if true == "fails" else "spared"] = (
            (case.refused if refused else said["fails"]) if true == "fails" else not said.get("fails", True)
        )
    if "score" in said:
        counted["kept"] = said.get("fix_skill", 0.0) >= said["score"] - TOLERANCE
    if true == "fails":
        counted["cause"] = bool(case.keys & set(said.get("causes", []))) or (refused and case.refused)
        if case.repairable and not (refused and case.refused):
            counted["repaired"] = said.get("fix_skill", 0.0) >= GOOD * best
    return counted


def score(cases: list[Case], out: Path | None = None) -> dict[str, float]:
    """Ask the doctor about each, print a line for each, and the shares at the end."""
    known, rows = truths(), {}
    for case in cases:
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = explained(case)
        marks = verdicts(case, said, known)
        lost = [k for k, v in marks.items() if v == (k == "refused")]
        rows[case.id] = {"truth": judged(case, known), "lost": lost, "marks": marks} | said
        print(
            "LOST " + ",".join(lost) if lost else "ok",
            case.id,
            *judged(case, known),
            json.dumps(said, default=str),
            flush=True,
        )
    shares = summary([r["marks"] for r in rows.values()])
    print(json.dumps(shares | {"n": len(rows)}))
    if out:
        out.write_text(json.dumps(rows, default=str, indent=1))
    return shares


def summary(marks: list[dict[str, bool]]) -> dict[str, float]:
    """Return each mark's share of the cases to which it applies, and the balanced accuracy of the verdicts."""

    def share(key: str) -> float:
        applies = [m[key] for m in marks if key in m]
        return round(sum(applies) / max(1, len(applies)), 3)

    shares = {key: share(key) for key in ("refused", "detected", "spared", "cause", "repaired", "kept")}
    counts = {f"n_{key}": sum(key in m for m in marks) for key in ("detected", "spared", "repaired")}
    return shares | counts | {"balanced_accuracy": round((shares["detected"] + shares["spared"]) / 2, 3)}


def main(argv: list[str]) -> None:
    """Run one of the commands above."""
    what, *ids = argv or ["list"]
    torch.set_num_threads(1)
    if what == "truth":
        remake(ids)
    elif what == "score":
        held = "--held" in ids
        out = next((Path(i[6:]) for i in ids if i.startswith("--out=")), None)
        score(chosen([i for i in ids if not i.startswith("--")], held), out)
    else:
        known = truths()
        for c in chosen(ids):
            print(c.id, *(judged(c, known) if c.id in known else ()), "held" if c.held else "")


if __name__ == "__main__":
    main(sys.argv[1:])
