"""The command: settings, subcommands and running nodes."""
