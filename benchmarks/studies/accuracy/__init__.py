"""Scorers and baselines beside each other on held-back images."""
