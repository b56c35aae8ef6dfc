"""Searching instead of enumerating: Optuna proposes, trials train as populations, a study keeps what was found."""
