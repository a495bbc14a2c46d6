"""A process that logs answers and says the number of each one that is safe, until it is killed:

`log_until_killed SPOOL FIRST [COUNT]`.
"""

import sys
from itertools import count, islice
from pathlib import Path

from serving.live.answer_log import AnswerLog
from tests.serving.made_answers import QUICK, answer

spool, first = Path(sys.argv[1]), int(sys.argv[2])
log = AnswerLog(spool, QUICK)
log.start()
for number in islice(count(first), int(sys.argv[3]) if len(sys.argv) > 3 else None):
    future = log.append(answer(number, rows=5))
    if future is not None and future.result():
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
log.close()
