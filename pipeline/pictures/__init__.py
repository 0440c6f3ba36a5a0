"""Pictures: of a sweep's cells, and of a single run that is trained again and looked at."""
