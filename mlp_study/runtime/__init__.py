"""The process a command runs in: start-up, signals, files written whole, random numbers."""
