"""Every kind of fault against its true training: the verdict, the cause, and what the best fix reaches when trained.

`truths.json` says what each training reached with five seeds (``python -m tests.doctor.corpus truth``). Where a seed
says the contrary, or the skill lies between failing and training, nothing is asserted about the verdict.
"""

from __future__ import annotations

import pytest

from tests.doctor.corpus import CASES, truths, verdicts
from tests.doctor.measuring import explained, judged

KNOWN = truths()

QUICK = (
    "bad_data/nan_inputs",
    "columns/tiny_units",
    "columns/wine_standard",
    "dead/bias_minus_50",
    "dropout/p1",
    "equal_weights/digits_constant",
    "frozen/optimizer_of_another",
    "lr/rmsprop_1e-6",
    "pairs/bce_of_raw",
    "pairs/softmax_one_output_bce",
    "sorted/digits_in_order",
    "sorted/iris_loader",
    "weight_decay/breast_sgd_20",
)
"""A representative of most kinds, each explained in a second or two."""

BUDGET = 10  # seconds of computing for each question
IMAGES = ("mnist", "fashion", "raw_pixels", "keras_clipped")


def representatives() -> list[str]:
    """Return one training that fails and one that trains of each kind; `score` of the corpus asks all."""
    chosen: dict[tuple[str, str], str] = {}
    for id in (*QUICK, *CASES):
        case = CASES[id]
        true = judged(case, KNOWN)[0]
        if not case.held and not case.slow and true != "partial":
            chosen.setdefault((case.kind, true), id)
    return [*QUICK, *(id for id in chosen.values() if id not in QUICK)]


def marked(id: str):
    return pytest.param(id, marks=[] if id in QUICK else pytest.mark.slow)


@pytest.mark.filterwarnings("ignore")  # what the author's own script would warn of
@pytest.mark.parametrize("id", [marked(id) for id in representatives()])
def test_the_verdict_the_cause_and_the_fix_are_right(id, request):
    case = CASES[id]
    if any(word in id for word in IMAGES):
        request.getfixturevalue("mnist_root")
    said = explained(case, budget=BUDGET)
    wrong = {key for key, right in verdicts(case, said, KNOWN).items() if right == (key == "refused")}
    assert not wrong, (judged(case, KNOWN), said)


def test_every_case_has_a_truth_and_every_kind_both_sides():
    assert set(KNOWN) == set(CASES)
    by_kind: dict[str, set[str]] = {}
    for case in CASES.values():
        by_kind.setdefault(case.kind, set()).add(judged(case, KNOWN)[0])
    assert all({"trains", "fails"} <= said for kind, said in by_kind.items() if kind not in ("bad_data", "labels"))


def test_a_failing_training_has_causes_that_are_right():
    assert [id for id, case in CASES.items() if judged(case, KNOWN)[0] == "fails" and not case.keys] == []
