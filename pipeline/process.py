"""stub"""

import os


def this_process() -> str:
    return f"x {os.getpid()}"


def is_gone(text: str) -> bool:
    return not os.path.exists("/proc/" + text.rsplit(maxsplit=1)[-1])
