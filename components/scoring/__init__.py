"""Scores rows with a model bundle, from arrays and ONNX graphs alone: what the service runs, and what judges a champion on new data."""
