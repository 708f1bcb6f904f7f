"""An Azure ML workspace on this machine: the REST API that unmodified Azure clients speak."""
