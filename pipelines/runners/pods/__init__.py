"""Tasks of a local run as pods would run them: each sees its inputs, what its IR declares, and nothing else
of this machine but the installed packages, which play the image.
"""
