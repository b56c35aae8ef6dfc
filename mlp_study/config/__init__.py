"""The settings of a run, how they are composed, checked and explained."""
