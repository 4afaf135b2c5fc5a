"""Training of the base weights: scenes, samples, losses and the loop. Nothing here runs when serving."""
