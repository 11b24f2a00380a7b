"""What hosts that share one app share, over PostgreSQL."""
