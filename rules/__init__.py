"""Judges ticks and raises findings."""
