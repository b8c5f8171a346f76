"""Dashboards: what they ask for, and that stores answer it truly."""
