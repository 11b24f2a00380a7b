"""Every key and its default, and how they are loaded."""
