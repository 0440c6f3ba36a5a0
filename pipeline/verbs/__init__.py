"""What the smaller verbs do, and the words that all of them share."""
