"""The command: subcommands, settings as a whole, and the wiring of a running node."""
