"""A population of multilayer perceptrons, and its gradients."""
