"""The files in a search's folder that say what its trials were, for those who read them."""

ABOUT = "search.json"  # what the columns of the table mean: objectives and parameters
TRIALS = "trials.csv"
IMPORTANCE = "importance.csv"
FORMAT = 1  # of search.json
