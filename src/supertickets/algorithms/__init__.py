"""The papers' algorithms, one file each."""
