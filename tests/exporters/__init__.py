"""Pages and web server of a node."""
