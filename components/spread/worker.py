"""A process of this machine that makes one piece after the other, as `local` asks it: a JSON line in, a JSON
line out. It ends when its driver does, whatever way.
"""

import json
import os
import queue
import sys
import threading

from components.spread.attempt import attempt


def main() -> None:
    """Answer what comes in until nothing more can come."""
    # Libraries print to standard output; the answers go their own way.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    while True:
        function, piece = json.loads(asked.get())
        answers.write(json.dumps(attempt(function, piece, {})) + "\n")


def _listen(asked: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        asked.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
