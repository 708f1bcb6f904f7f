"""Azure Machine Learning v2 at the prompt of a notebook, on a laptop or on Azure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%aml`` and ``%%aml``; called by ``%load_ext aml_magics``."""
    from aml_magics.magic import register

    register(shell)
