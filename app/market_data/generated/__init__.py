"""What follows from the seed: random numbers that need no sequence, and the walk of prices."""
