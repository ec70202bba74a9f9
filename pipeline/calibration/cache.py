"""`datasets` remembers what it has found out about a dataset; here it does so for one process alone.

Its usual place, below HF_HOME, need not be writable. What an earlier program left there would be believed:
the features of a dataset, for example, that has since changed under the same name.
"""

import functools
import tempfile
from pathlib import Path


@functools.cache
def keep_private() -> tempfile.TemporaryDirectory[str]:
    """Let `datasets` write to a fresh folder, which goes with this process.

    Raises:
        OSError: when there is no room for temporary files.
    """
    import datasets.config

    folder = tempfile.TemporaryDirectory(prefix="proofcard-datasets-")
    datasets.config.HF_DATASETS_CACHE = Path(folder.name)
    return folder
