"""Readiness gates: whether a model may enter the registry, and whether it may replace the champion."""
