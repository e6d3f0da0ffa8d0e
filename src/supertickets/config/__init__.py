"""Settings: recipes, their loading and validation, and schedules as pure functions."""
