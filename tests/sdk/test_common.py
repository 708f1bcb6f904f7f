"""What all kinds of resources have in common: paging, etags, refusals; never an answer of 500."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from azure.ai.ml import Input, command
from azure.ai.ml.entities import Environment

from aml_magics.local import coverage
from tests.sdk.bodies import BESIDE, COMMON, GOOD, URI

GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tests"
ELSEWHERE = ("/mlflow", "/login", "/msi")  # not answered in ARM's terms
JUNK = (3, "", [1], {"a": {"b": [1]}}, "x" * 3000)
NO_JSON = (
    *(b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000),
    *(b'{"properties": {"a": NaN}}', b'{"properties": {"a": "\\ud800"}}'),
)


def bodies(good):
    """The good body with one thing in it spoilt, in every way."""
    for field in {**COMMON, **good}:
        for junk in JUNK:
            yield {"properties": {**good, field: junk}}
            if isinstance(good.get(field), dict):
                for inner in good[field]:
                    yield {"properties": {**good, field: {**good[field], inner: junk}}}
    for field in BESIDE:
        for junk in JUNK:
            yield {"properties": good, field: junk}


@pytest.mark.parametrize("path", GOOD)
def test_no_body_makes_the_server_fail(arm, path):
    for body in bodies(GOOD[path]):
        for answer in (arm("PUT", f"./{path}", body), arm("GET", f"./{path.split('/')[0]}")):
            assert answer.status_code in (200, 201, 400, 404, 409, 501), body


def paths():
    """Every request that is answered, its scopes filled in; but not the end of the workspace."""
    workspace = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/odd"
    subscription = GROUP.rpartition("/resourceGroups")[0]
    for verbs, path, _ in coverage.requests():
        there = path.replace("/{workspace}", workspace).replace("/{group}", GROUP)
        there = there.replace("/{subscription}", subscription)
        for verb in verbs.split():
            if not there.startswith(ELSEWHERE) and (verb, there) != ("DELETE", workspace):
                yield verb, there


@pytest.mark.parametrize("name", ["x", "..%2f..", "%00", "a" * 300, "%ff", "é"])
def test_no_path_makes_the_server_fail(arm, name):
    for verb, path in paths():
        body = None if verb in ("GET", "HEAD", "DELETE") else b'{"properties": {}}'
        answer = arm(verb, re.sub(r"\{[^}]*\}", name, path), body)
        assert answer.status_code not in (500, 507), (verb, path)


@pytest.mark.parametrize("path", GOOD)
def test_no_text_makes_the_server_fail(arm, path):
    for text in NO_JSON:
        assert arm("PUT", f"./{path}", text).status_code == 400, text


def test_a_body_without_end_is_refused(arm):
    assert arm("PUT", "./data/x/versions/1", b" " * (33 << 20)).status_code == 413


@pytest.mark.parametrize(
    "query", ["$top=x", "$top=-1", "$skip=x", "$skip=-1", "$skipToken=x", "$top=" + "9" * 40]
)
def test_a_page_that_is_none_is_refused(arm, query):
    assert arm("GET", f"./data?{query}").status_code == 400


def test_a_listing_goes_over_many_pages(client, connection, address, arm):
    scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {connection.token}"
        for number in range(1, 451):
            body = {"properties": {"dataUri": URI.format(number), "dataType": "uri_file"}}
            url = f"{address.url}{scope}/data/t/versions/{number}"
            assert session.put(url, json=body, timeout=30).status_code == 201
    versions = [data.version for data in client.data.list("t")]
    assert versions == [str(number) for number in range(450, 0, -1)]
    page = arm("GET", "./data/t/versions?$top=3&$skip=2").json()
    assert [row["name"] for row in page["value"]] == ["448", "447", "446"]
    following = requests.get(
        page["nextLink"].replace(address.secure_url, address.url),
        headers={"Authorization": f"Bearer {connection.token}"},
        timeout=30,
    ).json()
    assert [row["name"] for row in following["value"]] == ["445", "444", "443"]


@pytest.mark.parametrize("version", ["", "2099-01-01-preview", "1", "x", "%00", "../..", "9" * 500])
def test_any_api_version_will_do(arm, version):
    body = {"properties": GOOD["data/x/versions/1"]}
    assert arm("PUT", f"./data/x/versions/1?api-version={version}", body).status_code == 201
    assert arm("GET", "./data/x/versions/1").json()["name"] == "1"


@pytest.mark.parametrize("name", ["..%2Fx", "%2Fetc", "a%2Fb", ".x", "a%5Cb", "x%00", "a b", "%2e"])
@pytest.mark.parametrize(
    "path", ["./data/{}/versions/1", "./data/x/versions/{}", "./datastores/{}"]
)
def test_a_path_is_no_name(arm, path, name):
    body = {"properties": GOOD["datastores/x" if "stores" in path else "data/x/versions/1"]}
    assert arm("PUT", path.format(name), body).status_code in (400, 501)
    listed = arm("GET", path.partition("/{}")[0].removesuffix("/x/versions")).json()["value"]
    assert all(row["name"].startswith("workspace") for row in listed)  # its own datastores


THOUSANDS = {
    "data/t/versions": lambda client: (data.version for data in client.data.list("t")),
    "models/t/versions": lambda client: (model.version for model in client.models.list("t")),
    "data": lambda client: (data.name for data in client.data.list()),
    "datastores": lambda client: (store.name for store in client.datastores.list()),
}


@pytest.mark.parametrize("path", THOUSANDS)
def test_each_of_thousands_is_listed_once_while_more_come(client, connection, address, path):
    """Also when the page is cut by a filter, and when what was listed already changes."""
    scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]
    count = 250 if path.startswith("models") else 1500  # models are MLflow's too, which takes time
    account = client.datastores.get("workspaceblobstore")
    place = f"{address.url}/blob/{account.account_name}/{account.container_name}/%7B%7D"
    kind = next(kind for kind in GOOD if kind.startswith(path.split("/")[0]))
    body = {"properties": {**GOOD[kind], "isDefault": False}}
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {connection.token}"

        session.put(place, data=b"what the models are", timeout=60).raise_for_status()

        def put(name):
            name = f"{name}/versions/1" if path == "data" else name
            answer = session.put(f"{address.url}{scope}/{path}/{name}", json=body, timeout=60)
            assert answer.status_code in (200, 201), answer.text

        for number in range(count):
            put(str(number))
        seen = []
        for name in THOUSANDS[path](client):
            seen.append(name)
            if len(seen) % 110 == 0:
                put(f"new{len(seen)}")
                put("0")
    there = [name for name in seen if name.isdecimal()]
    assert there == [str(number) for number in range(count - 1, -1, -1)]
    assert len(seen) == len({*seen})


@pytest.mark.parametrize("path", ["data/x/versions/1", "connections/x", "datastores/x"])
def test_a_write_may_depend_on_the_etag(arm, path):
    body = {"properties": GOOD[path]}
    assert arm("PUT", f"./{path}", body, **{"If-Match": "*"}).status_code == 412
    etag = arm("PUT", f"./{path}", body, **{"If-None-Match": "*"}).json()["etag"]
    assert arm("PUT", f"./{path}", body, **{"If-None-Match": "*"}).status_code == 412
    assert arm("PUT", f"./{path}", body, **{"If-Match": etag}).status_code == 200
    stale = arm("PUT", f"./{path}", body, **{"If-Match": etag})
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "PreconditionFailed")


def test_of_many_writers_of_one_version_one_succeeds(arm):
    def write(number):
        body = {"properties": {"dataUri": URI.format(number), "dataType": "uri_file"}}
        return arm("PUT", "./data/t/versions/1", body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [201] + 7 * [409]


def test_data_of_another_workspace_is_not_taken_for_ones_own(client, arm):
    scope = "subscriptions/s/resourcegroups/g/workspaces/other/datastores/workspaceblobstore"
    job = command(
        command="cat ${{inputs.x}}",
        environment=Environment(image="none.invalid/none"),
        compute="cpu",
        inputs={"x": Input(type="uri_file", path=f"azureml://{scope}/paths/x.csv")},
    )
    name = client.jobs.create_or_update(job).name
    body = {"properties": {"modelUri": f"azureml://{scope}/paths/x", "modelType": "custom_model"}}
    answer = arm("PUT", "./models/m/versions/1", body)
    assert (answer.status_code, "of another workspace" in answer.text) == (400, True)
    assert client.jobs.get(name).name == name
