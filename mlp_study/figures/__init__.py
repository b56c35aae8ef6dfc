"""Static figures: a table or arrays in, a matplotlib figure out; one function each, without pyplot's global state."""

from mlp_study.figures.curves import learning_curves
from mlp_study.figures.images import confusion_matrix, first_layer_weights, prediction_grid
from mlp_study.figures.run import RunFigures
from mlp_study.figures.style import save_png

__all__ = [
    "RunFigures",
    "confusion_matrix",
    "first_layer_weights",
    "learning_curves",
    "prediction_grid",
    "save_png",
]
