"""Reads what a report is made of: journals, stores."""
