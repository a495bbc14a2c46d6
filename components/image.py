"""The container image that every door names; set ALPHALOOP_IMAGE before compiling to use another registry or
tag.
"""

import os

IMAGE = os.environ.get("ALPHALOOP_IMAGE", "alphaloop-python:0.7.0")
