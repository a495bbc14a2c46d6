#!/bin/sh
# Runs a command and leaves what it added below /opt/alphaloop in /added, so that a layer of the image holds that alone.
set -eu
rm -rf /added /tmp/before
touch /tmp/before
"$@"
mkdir /added
cd /
find opt/alphaloop -cnewer /tmp/before ! -type d -print0 | tar --null --files-from=- -cf - | tar -C /added -xf -
