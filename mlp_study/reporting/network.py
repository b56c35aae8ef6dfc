"""What a single run's page shows of its network: predictions, confusion, mistakes, weights and pre-activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import StudyError
from mlp_study.figures.images import GRID
from mlp_study.reporting.pictures import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet
    from mlp_study.records.run_folder import Run

MISTAKES = 36
PROBED, BINS = 1000, 60


@dataclass
class NetworkPage:
    """What is known of a run's network.

    Attributes:
        data: for the page's script; ``sentences`` say what happened to the units, for the page itself.
        pictures: for the page and the folder.
        missing: why there is no more.
    """

    data: dict[str, Any]
    pictures: list[Picture]
    missing: str | None = None


def network_page(folder: Path, data_root: Path | None = None) -> NetworkPage:
    """What the run's model does on the test images.

    Without model or images, as on another machine, ``missing`` says so, and the run's own PNGs are shown instead.

    Args:
        folder: the run's.
        data_root: where the data sets are; None: where the run had them, else ``data/``.
    """
    from mlp_study.data.images import load
    from mlp_study.records.run_folder import load_run

    data: dict[str, Any] = {}
    try:
        run = load_run(folder)
        data["sentences"] = sentences(run)
        if run.model is None:
            missing = "The run kept no model: its confusion matrix and mistakes cannot be shown."
            return NetworkPage(data, own_pictures(folder), missing)
        config = run.config
        images = load(config.data.name, data_root or config.data_root, **config.data.options)
        scaled_NI = scaled(config, images)
    except StudyError as error:
        missing = f"Confusion matrix and mistakes need the model and the test images: {error}"
        return NetworkPage(data, own_pictures(folder), missing)
    found = _page_of(run.model, config, images, scaled_NI)
    return NetworkPage(data | found.data, found.pictures)


def sentences(run: Run) -> list[str]:
    """What ``diagnose run=FOLDER`` says of it; nothing if it recorded no diagnostics."""
    from mlp_study.doctor.history import history_of

    try:
        return list(history_of(run)["sentences"])
    except StudyError:
        return []


def scaled(config: RunConfig, images: ImageSet) -> Tensor:
    """The test images as the run has seen its own, [N, I]: its normalizer, fitted on its training split."""
    from mlp_study.training.feed import Feed

    return Feed([config], images).transforms[0](images.test_images_NI)


def own_pictures(folder: Path) -> list[Picture]:
    """The PNGs that training has left in the run's folder."""
    words = {"predictions": "predictions on test images", "weights": "first-layer weights", "curves": "learning curves"}
    found = sorted((folder / "figures").glob("*.png"))
    return [
        Picture(
            path.stem,
            path.stem,
            f"The run's {words.get(path.stem, path.stem)}, drawn when it ended.",
            path.read_bytes(),
        )
        for path in found
    ]


def _page_of(model: nn.Sequential, config: RunConfig, images: ImageSet, scaled_NI: Tensor) -> NetworkPage:
    import torch

    with torch.no_grad():
        probability_NC = torch.softmax(model(scaled_NI.to(next(model.parameters()).dtype)).float(), dim=1)
    sure_N, predicted_N = probability_NC.max(dim=1)
    labels_N = images.test_labels_N
    count = len(images.classes)
    counts = torch.bincount(labels_N * count + predicted_N, minlength=count * count).reshape(count, count)
    layers = preactivations(model, scaled_NI[:PROBED])
    data = {
        "confusion": {"classes": list(images.classes), "counts": counts.tolist()},
        "histograms": [histogram(z_NO) for z_NO in layers],
    }
    return NetworkPage(
        data, [*_pictures(model, images, predicted_N, sure_N), *_charted(config, images, predicted_N, layers)]
    )


def preactivations(model: nn.Sequential, scaled_NI: Tensor) -> list[Tensor]:
    """What each hidden layer's activation receives, [N, O] each."""
    import torch

    found, a = [], scaled_NI.to(next(model.parameters()).dtype)
    with torch.no_grad():
        for name, module in model.named_children():
            if name.startswith("activation_"):
                found.append(a)
            a = module(a)
    return found


def histogram(z_NO: Tensor) -> dict[str, Any]:
    """Counts of the finite values, and the edges of their classes."""
    import torch

    z = z_NO[torch.isfinite(z_NO)].double()
    low, high = (float(z.min()), float(z.max())) if len(z) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    counts = torch.histc(z, BINS, low, high)
    return {"counts": counts.long().tolist(), "edges": torch.linspace(low, high, BINS + 1).tolist()}


def _charted(config: RunConfig, images: ImageSet, predicted_N: Tensor, layers: Sequence[Tensor]) -> list[Picture]:
    """Static twins of the page's own charts, for the folder."""
    from mlp_study.figures import confusion_matrix
    from mlp_study.figures.preactivations import preactivation_histograms

    matrix = confusion_matrix(images.test_labels_N.numpy(), predicted_N.numpy(), images.classes)
    found = [Picture.of("confusion_matrix", "Confusion matrix", "", matrix, charted=True)]
    if layers:
        own, seen = config.activation, f"{len(layers[0])} test images, after training"
        drawn = preactivation_histograms([z_NO.T.numpy() for z_NO in layers], own.name, own.options, seen=seen)
        found.append(Picture.of("preactivations", "Pre-activations", "", drawn, charted=True))
    return found


def _pictures(model: nn.Sequential, images: ImageSet, predicted_N: Tensor, sure_N: Tensor) -> list[Picture]:
    import torch

    from mlp_study.figures import first_layer_weights, prediction_grid

    high, wide = images.height, images.width
    labels_N = images.test_labels_N

    def grid(chosen: Tensor, which: str) -> Figure:
        pixels_NI, own, said = (
            images.test_images_NI[chosen].numpy(),
            labels_N[chosen].numpy(),
            predicted_N[chosen].numpy(),
        )
        return prediction_grid(pixels_NI, own, said, images.classes, high, wide, which=which)

    first = torch.arange(min(GRID, len(labels_N)))
    wrong = int((labels_N[first] != predicted_N[first]).sum())
    marked = f"{wrong} wrong one{' is' if wrong == 1 else 's are'} marked" if wrong else "none is wrong"
    total = int((labels_N != predicted_N).sum())
    drawn = [
        Picture.of(
            "predictions",
            "Predictions",
            f"The first {len(first)} test images with the predicted class on each; {marked}.",
            grid(first, "the first ones"),
        )
    ]
    if total:
        mistakes = (sure_N * (labels_N != predicted_N)).argsort(descending=True)[: min(MISTAKES, total)]
        least, most = float(sure_N[mistakes[-1]]), float(sure_N[mistakes[0]])
        words = (
            f"{len(mistakes)} of {total} wrong test images, the most confident first: "
            f"the network gives the wrong class a probability of {most:.2f} down to {least:.2f}."
        )
        which = f"the most confident of {total} mistakes"
        drawn.append(Picture.of("mistakes", "Most confident mistakes", words, grid(mistakes, which)))
    weight_OI = next(p for p in model.parameters() if p.ndim == 2).detach().float().numpy()
    words = (
        f"Weights of the {len(weight_OI)} units of the first layer as images: blue negative, white zero, red positive."
    )
    return [*drawn, Picture.of("weights", "First-layer weights", words, first_layer_weights(weight_OI, high, wide))]
