"""Diagnosis: what will happen to a network, why, and what would cure it."""
