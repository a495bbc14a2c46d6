"""One module an expert, each with a `Settings` section and an `Expert`."""
