"""A running engine as a context: started, waited for, watched, and gone with all its processes at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config.serving import Serving
from pipeline.serve.endpoint import Endpoint


@contextmanager
def running(serving: Serving, checkpoint: Path, work_dir: Path) -> Iterator[Endpoint]:
    """The engine of a profile, answering for `checkpoint`; its log lies in `work_dir/serve`.

    Raises:
        Usage: when it cannot be started as asked; nothing was started.
        Stop: when it ends by itself, runs out of memory, or is not ready in time.
    """
    raise NotImplementedError
    yield
