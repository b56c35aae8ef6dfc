"""The process and the machine: start-up, signals, errors, files, memory, random numbers."""
