"""`python -m pipelines` is `alphaloop`."""

from pipelines.commands.cli import main

main()
