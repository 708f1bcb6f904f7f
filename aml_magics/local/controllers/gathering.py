"""What the rounds of a parallel loop made, as one table."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import yaml

from aml_magics.local import uris
from aml_magics.local.controllers.run import Job
from aml_magics.local.store import Body, Resource
from aml_magics.local.submission import DATASTORE

if TYPE_CHECKING:
    from aml_magics.local.app import Local


def gather(local: Local, pipeline: Job, loop: str, rounds: list[Resource]) -> Body:
    """The outputs of a loop: for each of the body's an mltable with one entry for each round."""
    names = rounds[0].properties["outputs"] if rounds else {}
    return {
        name: {
            "jobOutputType": "mltable",
            "uri": _table(local, pipeline, f"{loop}/{name}", [_uri(row, name) for row in rounds]),
        }
        for name in names
        if name != "default"
    }


def _uri(row: Resource, output: str) -> str:
    return str(row.properties["outputs"][output]["uri"])


def _table(local: Local, pipeline: Job, name: str, made: list[str]) -> str:
    """A folder with an MLTable and the rounds' outputs in it; the files are not copied."""
    uri = f"azureml://datastores/{DATASTORE}/paths/azureml/{pipeline.name}/{name}/"
    folder = uris.destination(local, pipeline.ws, uri)
    if (folder / "MLTable").exists():
        return uri
    paths = []
    for number, source in enumerate(uris.local_path(local, pipeline.ws, one) for one in made):
        place = folder / str(number)
        if source.is_dir():
            shutil.copytree(source, place, copy_function=os.link, dirs_exist_ok=True)
            paths.append({"folder": f"./{number}"})
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place / source.name)
            paths.append({"file": f"./{number}/{source.name}"})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLTable").write_text(yaml.safe_dump({"type": "mltable", "paths": paths}), "utf-8")
    return uri
