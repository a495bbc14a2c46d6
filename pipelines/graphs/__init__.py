"""The KFP definitions: one function a pipeline, built from a configuration."""
