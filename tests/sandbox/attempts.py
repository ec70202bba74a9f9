"""What code of a model might try to reach: each `answer()` tries one thing and returns what came of it.

"held" when it was refused.
"""


def tries(attempt: str, refused: str = "OSError") -> str:
    """Code whose answer is "held" when the attempt raises `refused`, and what it returned otherwise."""
    body = "\n".join(f"        {line}" for line in attempt.strip().splitlines())
    return (
        "import os, sys\n"
        "def answer():\n"
        "    got = None\n"
        "    try:\n"
        f"{body}\n"
        f"    except {refused}:\n"
        "        return 'held'\n"
        "    return f'escaped: {got!r}'\n"
    )


# SECRET, VICTIM and MARK are replaced: a file that only its owner can read, a process, a path to write to.
HELD = {
    # from the issue
    "a shell through _imp": tries(
        """
import _imp, importlib.machinery as m, importlib.util as u
origin = getattr(u.find_spec("_posixsubprocess"), "origin", None)
if origin in (None, "built-in"):
    import _posixsubprocess as module
else:
    module = _imp.create_dynamic(m.ModuleSpec("x._posixsubprocess", None, origin=origin))
words, nobody = [b"sh", b"-c", b"echo > MARK"], (-1,) * 6
told, last = (0, os.dup(1)), (-1, None, None, None, -1, None, False)
got = module.fork_exec(words, [b"/bin/sh"], True, (), None, [], *nobody, *told, False, False, *last)
"""
    ),
    "a signal through a pidfd": tries("import signal\nsignal.pidfd_send_signal(os.pidfd_open(VICTIM), 9)"),
    "a device by mknod": tries("import stat\nos.mknod('MARK', 0o666 | stat.S_IFCHR, os.makedev(1, 3))"),
    "a pipe by mkfifo": tries("os.mkfifo('MARK')"),
    # other programs and processes
    "subprocess": tries("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'echo > MARK'])"),
    "os.system": tries("got = os.system('echo > MARK')\nif got: raise OSError"),
    "os.popen": tries("got = os.popen('echo > MARK').read()"),
    "posix_spawn": tries("got = os.posix_spawn('/bin/sh', ['sh', '-c', 'echo > MARK'], {})"),
    "execv": tries("os.execv('/bin/sh', ['sh', '-c', 'echo > MARK'])"),
    "execv of Python": tries("os.execv(sys.executable, [sys.executable, '-c', 'open(\"MARK\", \"w\")'])"),
    "fork": tries("got = os.fork()"),
    "forkpty": tries("got = os.forkpty()"),
    "multiprocessing": tries("import multiprocessing as m\nm.Process(target=print).start()"),
    "a thread": tries(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "(OSError, RuntimeError)",
    ),
    "a thread pool": tries(
        "import concurrent.futures as c\ngot = c.ThreadPoolExecutor().submit(max, 1, 2).result()",
        "(OSError, RuntimeError)",
    ),
    "kill of another": tries("os.kill(VICTIM, 9)"),
    "kill of all": tries("os.kill(-1, 9)"),
    "kill of the group": tries("os.killpg(0, 9)"),
    "stopping itself": tries("import signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    "an alarm": tries("import signal\nsignal.setitimer(signal.ITIMER_REAL, 60)"),
    "a session of its own": tries("os.setsid()"),
    # files
    "the secret": tries("got = open('SECRET').read()"),
    "the secret by descriptor": tries("got = os.open('SECRET', os.O_RDONLY)"),
    "the secret by path alone": tries("got = os.open('SECRET', os.O_PATH)"),
    "the secret by import": tries(
        "import importlib.util as u\n"
        "from importlib.machinery import SourceFileLoader as L\n"
        "got = L('x', 'SECRET').get_data('SECRET')"
    ),
    "the secret through /proc": tries("got = open('/proc/VICTIM/root' + 'SECRET').read()"),
    "ssh keys": tries("got = os.listdir(os.path.expanduser('~VICTIMS_USER') + '/.ssh') or 'none'"),
    "/etc/shadow": tries("got = open('/etc/shadow').read()"),
    "/etc/passwd": tries("got = open('/etc/passwd').read()"),
    "the root folder": tries("got = os.listdir('/')"),
    "/tmp": tries("got = os.listdir('/tmp')"),
    "its own environment": tries("got = open('/proc/self/environ').read()"),
    "another's environment": tries("got = open('/proc/VICTIM/environ').read()"),
    "another's memory": tries("got = open('/proc/VICTIM/mem', 'rb').read(1)"),
    "another's memory to write": tries("got = open('/proc/VICTIM/mem', 'r+b')"),
    "another's descriptors": tries("got = os.listdir('/proc/VICTIM/fd')"),
    "its own descriptors": tries("got = os.listdir('/proc/self/fd')"),
    "kernel settings": tries("got = open('/proc/sys/kernel/core_pattern').read()"),
    "a disk": tries("got = os.open('/dev/vda', os.O_RDONLY)"),
    "memory of the machine": tries("got = os.open('/dev/mem', os.O_RDONLY)"),
    "the terminal": tries("got = os.open('/dev/tty', os.O_RDWR)"),
    "shared memory": tries("got = os.open('/dev/shm/x', os.O_RDWR | os.O_CREAT)"),
    "a file": tries("open('MARK', 'w').write('x')"),
    "a file to append to": tries("open('MARK', 'a').write('x')"),
    "a file in /tmp": tries("import tempfile\ngot = tempfile.mkstemp()", "(OSError, FileNotFoundError)"),
    "a nameless file": tries("got = os.open('/tmp', os.O_TMPFILE | os.O_RDWR)"),
    "a file of memory": tries("got = os.memfd_create('x')"),
    "a folder": tries("os.mkdir('MARK')"),
    "a link": tries("os.symlink('SECRET', 'MARK')"),
    "a hard link": tries("os.link('SECRET', 'MARK')"),
    "removing": tries("os.unlink('SECRET')"),
    "renaming": tries("os.rename('SECRET', 'MARK')"),
    "truncating": tries("os.truncate('SECRET', 0)"),
    "changing rights": tries("os.chmod('SECRET', 0o777)"),
    "changing times": tries("os.utime('SECRET', (0, 0))"),
    "changing folders": tries("os.chdir('/')\ngot = os.getcwd()"),
    "Python's own bytecode": tries(
        "import json\n"
        "open(json.__cached__, 'r+b').write(b'x')"
    ),
    "sitecustomize": tries("open(os.path.dirname(os.__file__) + '/sitecustomize.py', 'w').write('x')"),
    "a module beside Python's": tries("open(os.path.dirname(os.__file__) + '/left.pth', 'x').write('x')"),
    # networks
    "inet": tries("import socket\nsocket.create_connection(('192.0.2.1', 80), 1)"),
    "loopback": tries("import socket\nsocket.create_server(('127.0.0.1', 0))"),
    "a datagram": tries("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)"),
    "a raw socket": tries("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    "netlink": tries("import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),
    "an abstract socket": tries("import socket\nsocket.socket(socket.AF_UNIX).connect(b'\\0proxy')"),
    "a socket pair": tries("import socket\ngot = socket.socketpair()"),
    "names": tries("import socket\ngot = socket.getaddrinfo('example.org', 80)", "(OSError, UnicodeError)"),
    "http": tries("import urllib.request as u\ngot = u.urlopen('http://192.0.2.1/', timeout=1)"),
    "an event loop": tries("import asyncio\nasyncio.run(asyncio.sleep(0))\ngot = 'ran'"),
    # privileges
    "setuid": tries("os.setuid(0)"),
    "setgroups": tries("os.setgroups([0])"),
    "chroot": tries("os.chroot('/')"),
    "nice": tries("got = os.nice(-5)"),
    "affinity of another": tries("os.sched_setaffinity(VICTIM, {0})"),
    "more memory": tries("import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))", "(OSError, ValueError)"),
    "more time": tries("import resource as r\nr.setrlimit(r.RLIMIT_CPU, (-1, -1))", "(OSError, ValueError)"),
    # secrets
    "the environment": """
import os
def answer(): return 'held' if not dict(os.environ).keys() - {'LC_CTYPE'} else 'escaped'
""",
}  # fmt: skip
