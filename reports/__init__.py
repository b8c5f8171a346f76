"""Answers planners from the accounts of a journal."""
