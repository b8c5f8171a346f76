"""Reads ticks from the journal and speaks to other systems."""
