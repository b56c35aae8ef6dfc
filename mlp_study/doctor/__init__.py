"""The doctor: explain any PyTorch training as its author runs it."""
