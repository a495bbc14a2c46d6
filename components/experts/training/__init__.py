"""Training an expert fold by fold, its checks, and what is published of it."""
