"""What a single run's page shows of its network: predictions, confusion, mistakes, weights and pre-activations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import StudyError
from mlp_study.figures.images import GRID
from mlp_study.reporting.page_data import listed
from mlp_study.reporting.static_figures import Picture, left_by_others

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    data: dict[str, Any] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
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
    from mlp_study.training.feed import Feed

    page = NetworkPage(pictures=left_by_others(folder))
    try:
        run = load_run(folder)
        page.data["sentences"] = sentences(run)
        if run.model is None:
            page.missing = "The run kept no model: its confusion matrix and mistakes cannot be shown."
            return page
        config = run.config
        images = load(config.data.name, data_root or config.data_root, **config.data.options)
        inputs_NI = Feed([config], images).transforms[0](images.test_images_NI)  # scaled as the run's own were
    except StudyError as error:
        page.missing = f"Confusion matrix and mistakes need the model and the test images: {error}"
        return page
    data, pictures = _shown(run.model, config, images, inputs_NI.to(next(run.model.parameters()).dtype))
    return NetworkPage(page.data | data, pictures)


def sentences(run: Run) -> list[str]:
    """What ``diagnose run=FOLDER`` says of it; nothing if it recorded no diagnostics."""
    from mlp_study.doctor.history import history_of

    try:
        return list(history_of(run)["sentences"])
    except StudyError:
        return []


def _shown(
    model: nn.Sequential, config: RunConfig, images: ImageSet, inputs_NI: Tensor
) -> tuple[dict[str, Any], list[Picture]]:
    """The data of the page's charts, and the pictures."""
    import torch

    from mlp_study.figures import confusion_matrix
    from mlp_study.figures.preactivations import preactivation_histograms

    with torch.no_grad():
        sure_N, predicted_N = torch.softmax(model(inputs_NI).float(), dim=1).max(dim=1)
    labels_N, count = images.test_labels_N, len(images.classes)
    counts = torch.bincount(labels_N * count + predicted_N, minlength=count * count).reshape(count, count)
    layers = hidden_layers(model, inputs_NI[:PROBED])
    dead_O = (layers[0][1].amax(dim=0) == layers[0][1].amin(dim=0)).numpy() if layers else None
    data = {
        "confusion": {"classes": list(images.classes), "counts": counts.tolist()},
        "histograms": [histogram(z_NO) for z_NO, _ in layers],
    }
    matrix = confusion_matrix(labels_N.numpy(), predicted_N.numpy(), images.classes)
    drawn = [
        *_pictures(model, images, predicted_N, sure_N, dead_O),
        Picture.of("confusion_matrix", "", "", matrix, charted=True),
    ]
    if layers:
        own, seen = config.activation, f"{len(layers[0][0])} test images, after training"
        figure = preactivation_histograms([z_NO.T.numpy() for z_NO, _ in layers], own.name, own.options, seen=seen)
        drawn.append(Picture.of("preactivations", "", "", figure, charted=True))
    return data, drawn


def hidden_layers(model: nn.Sequential, inputs_NI: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What each hidden layer's activation receives and returns, [N, O] each."""
    import torch

    found, a_NI = [], inputs_NI
    with torch.no_grad():
        for name, module in model.named_children():
            z_NO, a_NI = a_NI, module(a_NI)
            if name.startswith("activation_"):
                found.append((z_NO, a_NI))
    return found


def histogram(z_NO: Tensor) -> dict[str, Any]:
    """Shares of the finite values, and the edges of their classes."""
    import numpy as np
    import torch

    z = z_NO[torch.isfinite(z_NO)].double().numpy()
    counts, edges = np.histogram(z, BINS)
    return {"share": listed(counts / max(len(z), 1)), "edges": listed(edges)}


def _pictures(
    model: nn.Sequential, images: ImageSet, predicted_N: Tensor, sure_N: Tensor, dead_O: Any
) -> Iterator[Picture]:
    """Predictions on the first test images, the most confident mistakes, and the first layer's weights."""
    import torch

    from mlp_study.figures import first_layer_weights, prediction_grid

    size = images.height, images.width
    labels_N = images.test_labels_N

    def grid(chosen: Tensor, which: str) -> Any:
        pixels, own, said = (part[chosen].numpy() for part in (images.test_images_NI, labels_N, predicted_N))
        return prediction_grid(pixels, own, said, images.classes, *size, which=which)

    first = torch.arange(min(GRID, len(labels_N)))
    wrong_N = labels_N != predicted_N
    wrong, total = int(wrong_N[first].sum()), int(wrong_N.sum())
    marked = f"{wrong} wrong one{' is' if wrong == 1 else 's are'} marked" if wrong else "none is wrong"
    told = f"The first {len(first)} test images with the predicted class on each; {marked}."
    yield Picture.of("predictions", "Predictions", told, grid(first, "the first ones"))
    if total:
        mistakes = (sure_N * wrong_N).argsort(descending=True)[: min(MISTAKES, total)]
        told = (
            f"{len(mistakes)} of {total} wrong test images, the most confident first: the network gives the wrong "
            f"class a probability of {float(sure_N[mistakes[0]]):.2f} down to {float(sure_N[mistakes[-1]]):.2f}."
        )
        drawn = grid(mistakes, f"the most confident of {total} mistakes")
        yield Picture.of("mistakes", "Most confident mistakes", told, drawn)
    weight_OI = next(p for p in model.parameters() if p.ndim == 2).detach().float().numpy()
    told = (
        f"Weights of the {len(weight_OI)} units of the first layer as images: blue negative, white zero, red positive."
    )
    yield Picture.of("weights", "First-layer weights", told, first_layer_weights(weight_OI, *size, dead_O=dead_O))
