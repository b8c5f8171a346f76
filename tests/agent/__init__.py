"""Tests of the folder agent."""
