"""System calls that sandboxed processes may not use, as a seccomp filter for bubblewrap.

Refused are memory that no process is charged for (shared memory and files in memory), and the kernel's key store. New
namespaces, mounts and the memory of other processes are refused too, as are interfaces that Python programs do not need.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from secondpass.service.sandbox.unavailable import SandboxUnavailable

LAST_KNOWN = 462
"""The newest system call that the tables consider; later ones do not exist in the sandbox."""

# Name of each refused call, with its number on x86_64 and on aarch64.
_REFUSED = {
    # Memory without an owner
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "mq_open": (240, 180), "mq_unlink": (241, 181), "io_setup": (206, 0),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "modify_ldt": (154, None),
    # Keys, namespaces and mounts
    "add_key": (248, 217), "request_key": (249, 218), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "move_mount": (429, 429), "open_tree": (428, 428), "mount_setattr": (442, 442),
    "statmount": (457, 457), "listmount": (458, 458), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "sethostname": (170, 161), "setdomainname": (171, 162),
    # Other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # Interfaces of the kernel, some with memory of their own
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "personality": (135, 92),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "set_mempolicy_home_node": (450, 450),
    "iopl": (172, None), "ioperm": (173, None), "uselib": (134, None), "ustat": (136, None),
    "sysfs": (139, None), "nfsservctl": (180, 42), "lookup_dcookie": (212, 18),
    # The machine
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "syslog": (103, 116), "vhangup": (153, 58),
}  # fmt: skip

_SOME_ARGUMENTS = {
    "clone": (56, 220), "socket": (41, 198), "socketpair": (53, 199), "keyctl": (250, 219),
    "ioctl": (16, 29), "fcntl": (72, 25), "mmap": (9, 222), "madvise": (28, 233),
    "prctl": (157, 167), "setsockopt": (54, 208), "clone3": (435, 435),
}  # fmt: skip

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEW_NAMESPACES = 0x7E020000
_MAP_SHARED, _MAP_ANONYMOUS, _MAP_HUGETLB = 0x01, 0x20, 0x40000
_TIOCSTI, _TIOCLINUX, _F_SETPIPE_SZ = 0x5412, 0x541C, 1031
_MADV_HUGEPAGE, _MADV_COLLAPSE, _PR_SET_THP_DISABLE = 14, 25, 41
_JOIN_SESSION_KEYRING, _AF_UNIX, _SOL_SOCKET, _SO_SNDBUF = 1, 1, 1, 7

# Instructions of classic BPF
_LOAD, _AND, _EQUAL, _ABOVE, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Condition:
    """Condition on a 32-bit half of an argument: `(argument & mask) == value`, or `!=`."""

    argument: int
    value: int
    mask: int = 0xFFFFFFFF
    is_equal: bool = True
    is_high: bool = False

    def instructions(self, skipped: int) -> list[Instruction]:
        """Return instructions that skip the next `skipped` unless the condition holds."""
        offset = _ARGUMENTS + 8 * self.argument + 4 * self.is_high  # little-endian
        found = [(_LOAD, 0, 0, offset)]
        if self.mask != 0xFFFFFFFF:
            found.append((_AND, 0, 0, self.mask))
        jumps = (0, skipped) if self.is_equal else (skipped, 0)
        return [*found, (_EQUAL, *jumps, self.value)]


# Calls that are refused if all conditions of a line hold.
_CONDITIONS: list[tuple[str, tuple[Condition, ...]]] = [
    ("clone", (Condition(0, 0, _NEW_NAMESPACES, is_equal=False),)),
    # Only local sockets: buffers of other kinds reach megabytes, and there is no network.
    ("socket", (Condition(0, _AF_UNIX, is_equal=False),)),
    ("socketpair", (Condition(0, _AF_UNIX, is_equal=False),)),
    ("setsockopt", (Condition(1, _SOL_SOCKET), Condition(2, _SO_SNDBUF))),
    # A new anonymous session keyring is the only allowed operation: `confinement` needs it.
    ("keyctl", (Condition(0, _JOIN_SESSION_KEYRING, is_equal=False),)),
    ("keyctl", (Condition(1, 0, is_equal=False),)),
    ("keyctl", (Condition(1, 0, is_equal=False, is_high=True),)),
    ("ioctl", (Condition(1, _TIOCSTI),)),
    ("ioctl", (Condition(1, _TIOCLINUX),)),
    ("fcntl", (Condition(1, _F_SETPIPE_SZ),)),
    # Shared anonymous memory remains allocated when no process has it in its page tables.
    ("mmap", (Condition(3, _MAP_SHARED | _MAP_ANONYMOUS, _MAP_SHARED | _MAP_ANONYMOUS),)),
    ("mmap", (Condition(3, _MAP_HUGETLB, _MAP_HUGETLB),)),
    # Huge pages stay disabled: they are allocated faster than the watch of a tree can react.
    ("madvise", (Condition(2, _MADV_HUGEPAGE),)),
    ("madvise", (Condition(2, _MADV_COLLAPSE),)),
    ("prctl", (Condition(0, _PR_SET_THP_DISABLE), Condition(1, 1, is_equal=False))),
    ("prctl", (Condition(0, _PR_SET_THP_DISABLE), Condition(2, 0, is_equal=False))),
]


def refused_calls(machine: str | None = None) -> dict[str, int]:
    """Return the numbers of the calls that are always refused. Raises SandboxUnavailable."""
    column = _column(machine)
    numbers = ((name, pair[column]) for name, pair in _REFUSED.items())
    return {name: number for name, number in numbers if number is not None}


def number_of(name: str, machine: str | None = None) -> int:
    """Return the number of a call whose arguments decide. Raises SandboxUnavailable."""
    return _SOME_ARGUMENTS[name][_column(machine)]


def seccomp_filter(machine: str | None = None) -> bytes:
    """Return the filter for `machine`, by default this one, as bubblewrap's `--seccomp` reads it.

    Refused calls fail with EPERM. clone3 fails with ENOSYS, so that libraries use clone, whose flags a filter can read.
    Calls of another instruction set end the process.

    Raises:
        SandboxUnavailable: No table lists the calls of this machine.
    """
    found: list[Instruction] = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, _MACHINES[_known(machine)]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        # Also every number of x32
        (_ABOVE, 0, 1, LAST_KNOWN),
        _refusal(errno.ENOSYS),
        (_EQUAL, 0, 1, number_of("clone3", machine)),
        _refusal(errno.ENOSYS),
    ]
    for number in refused_calls(machine).values():
        found += [(_EQUAL, 0, 1, number), _refusal(errno.EPERM)]
    for name, conditions in _CONDITIONS:
        found += _refused_if(number_of(name, machine), conditions)
    return _assembled([*found, (_RETURN, 0, 0, _ALLOW)])


def _refused_if(number: int, conditions: tuple[Condition, ...]) -> list[Instruction]:
    block = [_refusal(errno.EPERM)]
    for condition in reversed(conditions):
        block = [*condition.instructions(len(block)), *block]
    return [(_EQUAL, 0, len(block) + 1, number), *block, (_LOAD, 0, 0, _NUMBER)]


def _refusal(error: int) -> Instruction:
    return (_RETURN, 0, 0, _REFUSE | error)


def _assembled(instructions: Iterable[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


def _known(machine: str | None) -> str:
    name = machine or platform.machine()
    if name not in _MACHINES:
        known = ", ".join(_MACHINES)
        raise SandboxUnavailable(f"system calls of {name} cannot be filtered; known are {known}")
    return name


def _column(machine: str | None) -> int:
    return list(_MACHINES).index(_known(machine))
