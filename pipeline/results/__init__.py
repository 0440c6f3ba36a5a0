"""What is kept of a run, as values, and read again."""
