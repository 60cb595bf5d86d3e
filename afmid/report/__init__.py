"""Pictures of scans and of answers."""
