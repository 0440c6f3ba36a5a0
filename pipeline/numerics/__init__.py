"""Arrays: networks and their training. NumPy and the standard library only."""
