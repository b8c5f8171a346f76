"""Tests of the folder reports."""
