"""Diagnostics: what can be measured on a network besides its loss. One entry per choice; `mlp_study.probes` measures.

This table only names and explains them, so that the config can be checked without torch. Values carry the entry's
name, ``dead``, for all hidden units together, and the name with a layer's number, ``dead_0``, for one layer; layers
count from 0, as in ``linear_0`` of the exported model. A value that does not apply (saturation of a ReLU) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlp_study.factors.table import Table

DORMANT = 0.025
"""tau of Sokar et al. 2023: a unit with less than this part of its layer's mean activity is dormant."""


@dataclass(frozen=True)
class Diagnostic:
    """One diagnostic.

    Attributes:
        doc: what the number says.
        source: where it comes from.
        family: what it looks at: ``units``, on every training image for ``probes.ends`` and on ``probes.images`` of
            them for ``probes.epochs``; ``images``, always on ``probes.images``; ``weights``, on none.
    """

    doc: str
    source: str
    family: str


DIAGNOSTICS: Table[Diagnostic] = Table(
    "diagnostic",
    {
        "preactivation": Diagnostic(
            "mean, deviation, lowest and highest pre-activation of a layer (preactivation_mean_0, ...)",
            "Glorot & Bengio 2010, figures 2 and 3",
            "units",
        ),
        "sparsity": Diagnostic("part of all (unit, image) pairs that are off", "Glorot, Bordes & Bengio 2011", "units"),
        "dead": Diagnostic("part of the units that are off for every image", "Lu et al. 2019, 1903.06733", "units"),
        "dormant": Diagnostic(
            f"part of the units whose mean |activation| is at most {DORMANT} of their layer's mean",
            "Sokar et al. 2023, 2302.12902, definition 3.1",
            "units",
        ),
        "always_on": Diagnostic(
            "part of the units that are off for no image", "a ReLU that is linear on all data", "units"
        ),
        "saturated": Diagnostic(
            "part of all (unit, image) pairs on a flat side of the activation", "Glorot & Bengio 2010", "units"
        ),
        "missed": Diagnostic(
            "part of the units whose hyperplane z = 0 has all images on one side",
            "comp.ai.neural-nets FAQ, part 2: should I standardize the input variables?",
            "units",
        ),
        "plateau": Diagnostic(
            "part of the images that are classified wrongly and send back no gradient",
            "Keras's clipped probabilities",
            "images",
        ),
        "effective_rank": Diagnostic(
            "exp of the entropy of a layer's normalized singular values", "Roy & Vetterli 2007, definition 1", "images"
        ),
        "regions": Diagnostic(
            "linear pieces along straight paths from image to image, mean over the paths; "
            "for piecewise linear activations",
            "Hanin & Rolnick 2019, 1901.09021",
            "images",
        ),
        "weight_norm": Diagnostic("Frobenius norm of a layer's weights", "", "weights"),
        "gradient_norm": Diagnostic("norm of the loss's gradient in a layer's weights", "", "images"),
        "gradient_snr": Diagnostic(
            "|mean gradient| over the root mean square distance of minibatches' gradients from it",
            "McCandlish et al. 2018, 1812.06162, section 2.2 (the root of 1 / noise scale, in units of the minibatch)",
            "images",
        ),
        "update_ratio": Diagnostic(
            "norm of the next update over the norm of the weights, per layer",
            "Karpathy's rule of thumb: about 1e-3",
            "images",
        ),
        "sharpness": Diagnostic(
            "largest eigenvalue of the loss's Hessian (preconditioned for adaptive optimizers), "
            "and stability_index: its part of the optimizer's threshold",
            "Cohen et al. 2021, 2103.00065; Cohen et al. 2022, 2207.14484",
            "images",
        ),
    },
)


def diagnostic_of(name: str) -> str:
    """Return the diagnostic that a value belongs to: ``dead_0`` is one of ``dead``'s; other names are their own."""
    if name == "stability_index":
        return "sharpness"
    return next((entry for entry in DIAGNOSTICS if name.startswith(entry)), name)
