"""Distil: a corpus and a teacher in, a student (weights and card) out. See README.md."""
