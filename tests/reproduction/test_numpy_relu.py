"""The hand-written source again, in numpy: full-batch descent whose backward pass disagrees with its forward pass."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mlp_study.data.images import load
from mlp_study.model.population import PopulationMLP
from mlp_study.reproduction.experiments import configs_of, load_experiments
from mlp_study.training.population import train_population

Array = NDArray[np.float64]
STEPS, IMAGES, L2, SLOPE, EPS = 6, 300, 5e-5, 1e-4, 1e-8


def forward(z: Array, activation: str) -> Array:
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-z))
    leak = 0.0 if activation == "relu" else SLOPE
    return np.where(z > 0, z, leak * z)


def backward(z: Array, activation: str) -> Array:
    if activation == "sigmoid":
        s = 1 / (1 + np.exp(-z))
        return s * (1 - s)
    return np.where(z > 0, 1.0, SLOPE if activation == "leaky_relu" else 0.0)


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def source(weights: list[Array], x: Array, labels: NDArray[np.int64], activation: str, lr: float) -> list[float]:
    """The cost before each step; ``weights`` are W1 [I, H], b1, W2 [H, C], b2, changed in place."""
    W1, b1, W2, b2 = weights
    y, n, costs = np.eye(W2.shape[1])[labels], len(x), []
    for _ in range(STEPS):
        z1 = x @ W1 + b1
        a1 = forward(z1, activation)
        p = softmax(a1 @ W2 + b2)
        costs.append(float(-(y * np.log(p + EPS) + (1 - y) * np.log(1 - p + EPS)).sum() / n))
        d2 = (p - y) / n  # softmax cross-entropy's gradient, whatever the cost
        d1 = (d2 @ W2.T) * backward(z1, activation)
        for parameter, gradient in ((W1, x.T @ d1), (b1, d1.sum(0)), (W2, a1.T @ d2), (b2, d2.sum(0))):
            np.subtract(parameter, lr * (gradient + L2 * parameter), out=parameter)
    return costs


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mismatched_1", "leaky_1", "relu_3", "sigmoid_3"])
def test_full_batch_training_is_the_sources(variant: str) -> None:
    [experiment] = load_experiments("numpy_relu")
    overrides = ["data=digits", f"data.limit={IMAGES}", f"trainer.max_epochs={STEPS}", "trainer.precision=64"]
    quick = ["data.gain=1", "trainer.validate_every=1", "optimizer.lr=0.05", "probes.ends=[]", "probes.epochs=[]"]
    [config] = configs_of(experiment, [*overrides, *quick], 1)[variant]
    images = load("digits")
    x = images.train_images_NI[:IMAGES].numpy().astype(np.float64) / 255
    fresh = PopulationMLP([config], 784, 10).double()
    weights = [
        p[0].detach().numpy().copy() for p in (fresh.weights[0], fresh.biases[0], fresh.weights[1], fresh.biases[1])
    ]
    mine = [weights[0].T.copy(), weights[1][:, 0].copy(), weights[2].T.copy(), weights[3][:, 0].copy()]
    costs = source(mine, x, images.train_labels_N[:IMAGES].numpy(), config.activation.name, lr=0.05)
    [result] = train_population([config])
    assert [row["train/loss"] for row in result.curves] == pytest.approx(costs, rel=1e-6)
    trained = list(result.weights.values())
    for ours, theirs in zip(trained, (mine[0].T, mine[1], mine[2].T, mine[3]), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-6)
