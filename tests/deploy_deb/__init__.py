"""The Debian packages: built, installed, started, upgraded, removed and purged in a root of their own."""
