"""What a run leaves behind: its folder, the table of all runs, and its W&B run."""
