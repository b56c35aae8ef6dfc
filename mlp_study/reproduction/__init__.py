"""The five sources again: their variants over many seeds, and each published claim held against what was measured."""
