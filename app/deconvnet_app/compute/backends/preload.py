"""What the fork server imports before it forks a worker.

Meanwhile it does not read its pipe, so that it would not notice that the server has gone: for as
long as the imports take, an alarm looks whether it still has the parent that it began with.
"""

import importlib
import os
import signal

_EVERY_S = 0.25
_parent = os.getppid()


def _leave_alone(number: int, frame: object) -> None:
    del number, frame
    if os.getppid() != _parent:
        os._exit(0)


signal.signal(signal.SIGHUP, signal.SIG_IGN)  # reaches the group; the server decides, for all
_before = signal.signal(signal.SIGALRM, _leave_alone)
signal.setitimer(signal.ITIMER_REAL, _EVERY_S, _EVERY_S)
try:
    importlib.import_module("deconvnet_app.compute.worker")
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, _before)
