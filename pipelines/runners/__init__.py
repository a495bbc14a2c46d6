"""What starts a pipeline: here, in containers, on a cluster."""
