"""Gives `datasets` a cache for this process only.

Its usual cache, below HF_HOME, may not be writable, and would be trusted even if stale: for example the
features of a dataset that has since changed under the same name.
"""

import functools

from proofcard.scratch import private_folder


@functools.cache
def keep_private() -> None:
    """Point `datasets` at a new folder that is removed with this process. Raises as `private_folder`."""
    import datasets.config

    datasets.config.HF_DATASETS_CACHE = private_folder("datasets")
