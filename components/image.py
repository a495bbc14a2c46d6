"""The container image that every door names; set ALPHALOOP_IMAGE before compiling to use another registry or
tag.
"""

import os

from components.processes.sources import IMAGE_NAME_VARIABLE

IMAGE = os.environ.get(IMAGE_NAME_VARIABLE, "alphaloop-python:0.8.0")
