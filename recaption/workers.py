"""Worker processes that end when the process that started them is gone."""

import os
import signal
import threading
import time
from multiprocessing import parent_process


def start_worker() -> None:
    """End with the parent, also when that is killed; Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """From now on, end when the process that started this one is gone."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # to torch, which is imported later, if at all
    parent = parent_process()  # not who is the parent by now: it may have been killed meanwhile

    def watch() -> None:
        while parent is None or os.getppid() == parent.pid:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
