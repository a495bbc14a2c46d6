"""Lays artifacts side by side in one folder, so that a stage that reads many of them has one input."""
