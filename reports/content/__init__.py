"""Computes what a report says."""
