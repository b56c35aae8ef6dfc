"""A diagnosis in words: 80 columns of plain text, and plain types."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlp_study.doctor.diagnosis import Diagnosis, Fix

WIDTH = 80
SHOWN = 3  # fixes with their code


def as_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything in plain types."""
    names = [field.name for field in dataclasses.fields(diagnosis) if field.name not in ("causes", "fixes")]
    return {
        **{name: getattr(diagnosis, name) for name in names},
        "will_train": diagnosis.will_train,
        "causes": [dataclasses.asdict(cause) for cause in diagnosis.causes],
        "fixes": [
            {field.name: getattr(fix, field.name) for field in dataclasses.fields(fix) if field.name != "training"}
            for fix in diagnosis.fixes
        ],
    }


def text_of(diagnosis: Diagnosis) -> str:
    """Verdict, reason and best fix first, then the details."""
    d = diagnosis
    lines = [headline(d), *_wrapped(sentence(d.why))]
    if d.fixes:
        lines += ["", f"What helps, best first ({d.tried} changes were tried):"]
        for number, fix in enumerate(d.fixes[:SHOWN], 1):
            lines += [
                "",
                *_wrapped(f"{number}. {fix_words(fix)}", "   "),
                *(f"       {line}" for line in fix.code.split("\n")),
            ]
        if len(d.fixes) > SHOWN:
            lines += ["", *_wrapped("also: " + "; ".join(keys_of(fix) for fix in d.fixes[SHOWN:]))]
    elif not d.will_train:
        lines += ["", f"None of the {d.tried} changes that were tried helps." if d.tried else "No change was tried."]
    if d.causes:
        lines += ["", "Causes:"]
        for cause in d.causes:
            where = f" ({cause.where})" if cause.where else ""
            lines += _wrapped(f"- {cause.key}: {cause.evidence}{where}", "  ")
    lines += ["", *(line for name, words in d.about.items() for line in _wrapped(f"{name:<9} {words}", " " * 10))]
    for note in d.notes:
        lines += _wrapped(f"{'note':<9} {note}", " " * 10)
    lines += _wrapped(f"{'measured':<9} {course_words(d)}", " " * 10)
    return "\n".join(line.rstrip() for line in lines)


def headline(d: Diagnosis) -> str:
    """The verdict, and how sure it is."""
    close = ", a close call" if d.close_call else ""
    return f"{sentence(d.verdict).rstrip('.')} (chance {percent(d.chance)}{close})."


def sentence(words: str) -> str:
    """With a capital and a full stop."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def percent(share: float) -> str:
    """A probability without false precision at its ends."""
    return "under 2 %" if share < 0.02 else "over 98 %" if share > 0.98 else f"{share:.0%}".replace("%", " %")


def keys_of(fix: Fix) -> str:
    """What a fix changes, in words."""
    return ", ".join(f"{key}: {value}" for key, value in fix.changes.items())


def fix_words(fix: Fix) -> str:
    """What a fix changes, why, and what it reaches."""
    longer = f", {fix.longer:.3g} times as many steps" if fix.longer > 1.05 else ""
    part = "" if fix.whole else " so far, on a part of the training"
    return f"{keys_of(fix)}: skill {fix.score:.2f}{part}{longer}; {fix.reason}."


def course_words(d: Diagnosis) -> str:
    """What was run, and for how long."""
    at = int(d.rows[-1]["step"]) if d.rows else 0
    whole = f"all {d.total_steps:,} steps" if at >= d.total_steps else f"{at:,} of {d.total_steps:,} steps"
    return f"{whole} on a copy: skill {d.skill:.2f}, where {d.possible:.2f} can be had; {d.seconds:.1f} s"


def _wrapped(text: str, later: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=later, break_long_words=False, break_on_hyphens=False) or [""]
