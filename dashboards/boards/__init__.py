"""One module for each dashboard: its questions in the order in which they are asked."""
