"""One small file per benchmark; each gives cards, and the rows it had to set aside."""
