"""Statistics over runs and connection schemes."""
