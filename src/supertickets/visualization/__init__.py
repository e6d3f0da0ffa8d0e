"""Figures of runs, predictions drawn on images, and Grad-CAM."""
