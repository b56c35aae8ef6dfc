"""Training: populations in lockstep, what happens to their members along the way, and what they leave."""
