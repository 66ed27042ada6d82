"""Measurements made once for a document or a decision: one module a study."""
