"""What has to be there before a recorded exchange with storage or a registry is repeated."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.sdk.contract import Exchange, exchanges
from tests.sdk.scenes import CONTENT, Needs, Scene, path_of, request_body

# Storage

_BLOCK = {"x-ms-blob-type": "BlockBlob"}
RANGE = {"x-ms-range": "bytes=0-33554431"}


def upload(scene: Scene, exchange: Exchange) -> Needs:
    """A new container and the signature that may write to it, if the client had one."""
    if "sig" not in exchange.query:
        make_container(scene, path_of(scene, exchange.url, {}))
        return Needs(headers=_BLOCK)
    path = f"{scene.ws}/codes/thing/versions/1/startPendingUpload"
    pending = scene.do("POST", path, {"pendingUploadType": "TemporaryBlobReference"}).json()
    uri = urlsplit(pending["blobReferenceForConsumption"]["credential"]["sasUri"])
    names, query = {"container": uri.path.strip("/")}, dict(parse_qsl(uri.query))
    signed = {key: value for key, value in query.items() if key in exchange.query}
    return Needs(names=names, query={**signed, "sig": query["sig"]}, headers=_BLOCK)


def blob(content: bytes, **headers: str) -> Any:
    """A blob that is there with some content."""

    def make(scene: Scene, exchange: Exchange) -> Needs:
        needs = upload(scene, exchange)
        scene.put_blob(path_of(scene, exchange.url, needs.names).strip("/"), content)
        return needs._replace(headers=headers)

    return make


def make_container(scene: Scene, path: str) -> None:
    """Make the container that a path begins with, unless it is there already."""
    container = path.strip("/").partition("/")[0]
    scene.send("PUT", f"{scene.blobs}/{container}?restype=container", None)


def container_there(scene: Scene, exchange: Exchange) -> Needs:
    scene.do("PUT", f"{scene.blobs}/testblob?restype=container")
    return Needs()


def file_system(scene: Scene, exchange: Exchange) -> Needs:
    """A container in the words of Data Lake Storage, and what the recorded step comes after."""
    kind = "directory" if exchange.url.endswith(("_dir", "gof")) else "file"
    path = path_of(scene, exchange.url, {})
    make_container(scene, path)
    url = f"https://{scene.account}.dfs.core.windows.net{path}"
    if exchange.method == "PATCH":
        scene.do("PUT", f"{url}?resource=file")
    if exchange.status == 202:
        return Needs(query={"action": "append"})
    if exchange.method == "PATCH":
        scene.do("PATCH", f"{url}?action=append&position=0", CONTENT)
        return Needs(query={"action": "flush", "position": str(len(CONTENT))})
    return Needs(query={"resource": kind})


# Registries


def registry(scene: Scene, exchange: Exchange) -> Needs:
    storage = {"storageAccountHnsEnabled": False, "storageAccountType": "standard_lrs"}
    details = {
        "location": "eastus",
        "acrDetails": [{"systemCreatedAcrAccount": {"acrAccountSku": "Premium"}}],
        "storageAccountDetails": [{"systemCreatedStorageAccount": storage}],
    }
    asked = {"regionDetails": [details], "managedResourceGroupTags": {"team": "a"}}
    scene.do("PUT", scene.registry, {"location": "eastus", "properties": asked})
    return Needs()


def in_registry(scene: Scene, exchange: Exchange) -> Needs:
    """The asset that the URL names, put by the recorded request before this one."""
    registry(scene, exchange)
    kind = exchange.label.split("/")[2]
    puts = [one for one in exchanges() if f"PUT /REG/{kind}/" in one.label and one.status == 202]
    shape = [one for one in puts if one.number < exchange.number or one is puts[0]][-1]
    body = request_body(scene, shape, Needs())
    scene.do("PUT", f"{scene.registry}/{kind}/thing/versions/1", body)
    return Needs()


def sharing(scene: Scene, exchange: Exchange) -> Needs:
    """A model of the workspace that is to be shared with the registry."""
    registry(scene, exchange)
    scene.make("models/thing")
    place = f"azureml://locations/eastus/workspaces/{scene.workspace['workspaceId']}"
    asked = {"destinationName": "thing", "destinationVersion": "1"}
    asked["sourceAssetId"] = f"{place}/models/thing/versions/1"
    return Needs(body={"properties": asked})


def shared(scene: Scene, exchange: Exchange) -> Needs:
    """The operation that shares a model, or the model once it is shared."""
    needs = sharing(scene, exchange)
    answer = scene.do("POST", f"{scene.registry}/import", needs.body)
    return Needs(url=answer.headers["Location"] if "/operations/" in exchange.url else "")


def registry_operation(scene: Scene, exchange: Exchange) -> Needs:
    registry(scene, exchange)
    answer = scene.do(
        "GET" if exchange.status == 404 else "PUT", scene.registry, {"properties": {}}
    )
    return Needs(url=answer.headers["Azure-AsyncOperation"])


def write_operation(kind: str) -> Any:
    """The operation by which an asset is written to a registry."""

    def make(scene: Scene, exchange: Exchange) -> Needs:
        registry(scene, exchange)
        path = f"{scene.registry}/{kind}/thing/versions/1"
        return Needs(url=scene.do("PUT", path, scene.body(f"{kind}/versions")).headers["Location"])

    return make
