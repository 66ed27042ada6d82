"""Photographs, degradations, labels and the training corpus made of them."""
