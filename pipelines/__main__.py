"""`python -m pipelines` is `alphaloop`."""

from pipelines.cli import main

main()
