"""`datasets` remembers what it has found out about a dataset; here it does so for one process alone.

Its usual place, below HF_HOME, need not be writable. What an earlier program left there would be believed:
the features of a dataset, for example, that has since changed under the same name.
"""

import functools

from proofcard.scratch import private_folder


@functools.cache
def keep_private() -> None:
    """Let `datasets` write to a fresh folder, which goes with this process. Raises as `private_folder`."""
    import datasets.config

    datasets.config.HF_DATASETS_CACHE = private_folder("datasets")
