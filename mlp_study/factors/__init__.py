"""The study's factors: activations, initializers, losses, normalizers, optimizers and schedules, one table each."""
