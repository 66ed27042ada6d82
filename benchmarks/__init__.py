"""Latency and drift, measured."""
