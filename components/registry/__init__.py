"""MLflow: versions of approved models, the aliases champion and challenger, and the history of who was
champion when.
"""
