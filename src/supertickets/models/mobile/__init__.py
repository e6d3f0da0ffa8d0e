"""Mobile networks and the search spaces around them (TuNAS)."""
