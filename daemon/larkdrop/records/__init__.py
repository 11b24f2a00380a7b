"""What is written down: record, key cache, result log, and what outlives a power cut."""
