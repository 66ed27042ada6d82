"""From trained weights to scorer files for each runtime, with proof that they agree."""
