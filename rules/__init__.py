"""Judges ticks and raises findings; empty until the first rule is written."""
