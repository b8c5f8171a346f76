"""Looks at the GPUs of one node and writes what it saw into the journal."""
