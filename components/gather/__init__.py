"""Lays artifacts of other stages side by side in one folder, so that a stage that reads many has one input."""
