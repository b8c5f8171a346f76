"""Real stores, started for the tests on free ports of loopback."""
