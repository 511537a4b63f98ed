"""Intervals, resampling and significance tests."""
