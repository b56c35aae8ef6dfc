"""Many runs by one command: a grid of overrides, planned into populations, trained, recorded and resumed."""
