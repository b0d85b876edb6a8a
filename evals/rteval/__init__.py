"""Batch evaluation and load testing of realtime speech APIs."""

__version__ = "0.1.0"
