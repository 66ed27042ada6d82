"""Measuring: records, figures with intervals, policies and gates, images, run directories."""
