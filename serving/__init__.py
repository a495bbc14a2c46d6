"""Reads the model bundle and the online store; imports no training code."""
