"""Runs from beginning to end: draw, search, train, retrain, transfer, prune, resume."""
