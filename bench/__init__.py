"""Figures of speed, memory and processor time: numbers to read, not tests."""
