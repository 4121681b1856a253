"""Keeping the memory that is freed, for loops that free and take the same again thousands of times. Light."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's numbers, see mallopt(3)
_TRIM_BYTES, _MMAP_BYTES = 1 << 30, 32 << 20  # 32 MiB is the most that glibc takes for the second


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to a gibibyte, where the C library is glibc; elsewhere do nothing.

    By default glibc gives arrays larger than 128 KiB back at once and asks for them again: in a network's forward and
    backward pass that is a page fault for every 4 KiB of every intermediate result.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)
