"""ModelOpt with a named patch series, in a separate folder; the installed package is never edited.

    tools = materialise("fixed")     # a verified folder named by its digest, made once
    activate(tools)                  # `import modelopt` now comes from there, in child processes too

`python -m proofcard.toolchain` shows every series and its state. Nothing here imports ModelOpt or torch.
"""

from proofcard.toolchain.activation import activate
from proofcard.toolchain.folder import DEFAULT_ROOT, NONE, PatchedFile, Toolchain, materialise
from proofcard.toolchain.series import ToolchainError

__all__ = ["DEFAULT_ROOT", "NONE", "PatchedFile", "Toolchain", "ToolchainError", "activate", "materialise"]
