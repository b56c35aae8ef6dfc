"""Diagnostics of a population: pure functions, and the verdict that follows from them."""
