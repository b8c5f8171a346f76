"""A real Slurm on one machine, for the tests."""
