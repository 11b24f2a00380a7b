"""From candidate to record."""
