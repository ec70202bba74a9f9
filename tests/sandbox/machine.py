"""A machine that lacks something: what `proofcard.sandbox` finds there, as JSON.

python machine.py LACKING...      # of: namespaces, landlock, seccomp, libseccomp, capabilities
"""

import ctypes.util
import errno
import json
import sys
from pathlib import Path

import pyseccomp

NO_SYSTEM = pyseccomp.ERRNO(errno.ENOSYS)
REFUSED = pyseccomp.ERRNO(errno.EPERM)


def lose(parts: set[str]) -> None:
    """A filter that refuses what is lacking, as a container's or an old kernel would."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    if "namespaces" in parts:
        rules.add_rule(REFUSED, "unshare")
    if "landlock" in parts:
        for name in ("create_ruleset", "add_rule", "restrict_self"):
            rules.add_rule(NO_SYSTEM, f"landlock_{name}")
    if "seccomp" in parts:
        rules.add_rule(REFUSED, "prctl", pyseccomp.Arg(0, pyseccomp.EQ, 22))
        rules.add_rule(REFUSED, "seccomp")
    if "capabilities" in parts:
        rules.add_rule(REFUSED, "capset")
    rules.load()


def main() -> None:
    parts = set(sys.argv[1:])
    lose(parts)
    if "libseccomp" in parts:
        del sys.modules["pyseccomp"]
        known = ctypes.util.find_library
        ctypes.util.find_library = lambda name: None if name == "seccomp" else known(name)
    from proofcard.errors import Stop, Usage
    from proofcard.sandbox import announce, run
    from proofcard.sandbox.protections import protections

    found = {"possible": protections().possible, "sentence": protections().sentence()}
    try:
        announce("strict", "truth.sandbox")
    except Usage as usage:
        found["usage"] = str(usage)
    try:
        found["ran"] = run(Path(__file__).with_name("hello.py")).output.decode()
    except Stop as stop:
        found["stop"] = str(stop)
    found["weak"] = run(Path(__file__).with_name("hello.py"), weak=True).output.decode()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
