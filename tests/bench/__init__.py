"""The check against a real GPU: its parts that need none."""
