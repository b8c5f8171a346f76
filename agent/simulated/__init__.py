"""What the simulated driver knows: models of GPUs, what each does over time, and its exact integrals."""
