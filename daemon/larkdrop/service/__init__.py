"""The running process: builds the parts, starts and stops them, and answers for them."""
