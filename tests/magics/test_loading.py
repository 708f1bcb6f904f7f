"""Loading the extension costs next to nothing."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from aml_magics import client
from aml_magics.errors import WorkspaceUnreachable

HEAVY = {"azure", "mlflow", "pandas", "numpy", "ipywidgets", "matplotlib", "requests", "yaml"}
PROGRAM = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "aml_magics")
shell.run_line_magic("aml", "job create --help")
print("\\nnew:", *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_loading_and_help_import_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    new = set(done.stdout.rpartition("new: ")[2].split())

    assert "aml_magics" in new
    assert not new & (HEAVY - {"yaml"}), new
    assert not done.stderr


def test_loading_twice_registers_one_matcher(shell):
    shell.run_line_magic("reload_ext", "aml_magics")
    names = [getattr(m, "__name__", "") for m in shell.Completer.custom_matchers]

    assert names.count("completions") == 1


def test_a_half_imported_sdk_is_not_kept(monkeypatch):
    """As when the workspace that it asks for its cloud is killed meanwhile."""

    def half(name):
        sys.modules[f"{name}.half"] = ModuleType("half")
        raise RuntimeError('Unknown cloud environment "aml-local".')

    monkeypatch.setattr(client, "import_module", half)
    with pytest.raises(WorkspaceUnreachable), client.translating():
        client._imported("azure.ai.ml")
    assert "azure.ai.ml.half" not in sys.modules
