"""What a sweep says: runs from the store as a frame, statistics by cell, verdicts."""
