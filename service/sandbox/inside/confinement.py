"""Restrictions that a sandboxed process takes on before it runs code of others. They are permanent."""

from __future__ import annotations

import ctypes

PR_SET_THP_DISABLE = 41
JOIN_SESSION_KEYRING = 1


def restrict(keyctl: int) -> None:
    """Disable huge pages, and leave the session keyring of the server.

    Where the kernel has no keyrings, or a container refuses the call, there is no keyring to leave. The seccomp filter
    allows both calls in this form only.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_THP_DISABLE, *(ctypes.c_ulong(each) for each in (1, 0, 0, 0)))
    libc.syscall(ctypes.c_long(keyctl), ctypes.c_long(JOIN_SESSION_KEYRING), None)
