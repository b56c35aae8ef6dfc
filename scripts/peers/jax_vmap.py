"""Many networks at once in hand-written JAX: jit(scan(vmap)) over an epoch, the members sharing each minibatch."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from peers.mnist import BATCH, CLASSES, IMAGES, LEARNING_RATE, WIDTH, test_set, training_set

Params = dict[str, Any]


def init(key: Any) -> Params:
    """One member's weights, Glorot-uniform, with zero biases."""
    glorot = jax.nn.initializers.glorot_uniform()
    first, second = jax.random.split(key)
    return {
        "w1": glorot(first, (784, WIDTH)),
        "b1": jnp.zeros(WIDTH),
        "w2": glorot(second, (WIDTH, CLASSES)),
        "b2": jnp.zeros(CLASSES),
    }


def logits(p: Params, x: Any) -> Any:
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def loss(p: Params, x: Any, y: Any) -> Any:
    log_probability = jax.nn.log_softmax(logits(p, x))
    return -jnp.take_along_axis(log_probability, y[:, None], axis=1).mean()


def train(members: Params, images: Any, labels: Any, order: Any) -> Params:
    """All members after the minibatches of ``order`` [S, B], or [S, K, B] where each member has its own."""
    own = 0 if order.ndim == 3 else None

    def step(members: Params, batch: Any) -> tuple[Params, None]:
        gradients = jax.vmap(jax.grad(loss), in_axes=(0, own, own))(members, images[batch], labels[batch])
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, members, gradients), None

    trained: Params = jax.lax.scan(step, members, order)[0]
    return trained


def prepare(
    members: int = 1, *, shared: bool = True, images: int = IMAGES
) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its seconds for each member, mean accuracy on the test images)."""
    images_NI, labels_N = (jnp.asarray(array) for array in training_set(images))
    state = {"members": jax.vmap(init)(jax.random.split(jax.random.key(0), members))}
    compiled = jax.jit(train, donate_argnums=0)
    shuffle = np.random.default_rng(0)

    def epoch() -> float:
        start = perf_counter()
        orders = [shuffle.permutation(images).reshape(-1, BATCH) for _ in range(1 if shared else members)]
        order = orders[0] if shared else np.stack(orders, axis=1)
        state["members"] = jax.block_until_ready(compiled(state["members"], images_NI, labels_N, order))
        return (perf_counter() - start) / members

    def accuracy() -> float:
        images, labels = test_set()
        predicted = jax.lax.map(lambda p: logits(p, images).argmax(1), state["members"])
        return float((predicted == labels).mean())

    return epoch, accuracy
