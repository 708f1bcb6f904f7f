"""Both doors make URLs that come back through them to the same paths."""

import pytest

from aml_magics.local import doors

DIRECT = doors.direct("http://127.0.0.1:80", "https://127.0.0.1:443")


@pytest.mark.parametrize(
    ("host", "prefix"),
    [
        ("management.azure.com", ""),
        ("eastus.api.azureml.ms", ""),
        ("cert-eastus.experiments.azureml.net", ""),
        ("login.microsoftonline.com", "/login"),
        ("abc.blob.core.windows.net", "/blob/abc"),
        ("abc.dfs.core.windows.net", "/dfs/abc"),
        ("iris.eastus.inference.ml.azure.com", "/inference/-/iris"),
        ("ml.azure.com", "/studio"),
        ("example.com", None),
        ("management.azure.com.example.com", None),
        ("a.b.blob.core.windows.net", None),
        ("", None),
    ],
)
def test_a_host_of_azure_has_its_place(host, prefix):
    assert doors.cloud_prefix(host) == prefix


def test_an_account_is_that_of_the_workspace_however_it_is_spelled():
    account = doors.account_name("S", "Group", "W")
    assert account == doors.account_name("s", "group", "w")
    assert account != doors.account_name("s", "group", "w2")
    assert (len(account), account[:3]) == (24, "aml")


def test_the_sdk_finds_the_account_in_a_direct_blob_url():
    from azure.storage.blob import BlobServiceClient

    client = BlobServiceClient(DIRECT.blob("amlx"), credential="a2V5")
    assert client.account_name == "amlx"
    assert client.primary_hostname.endswith("@127.0.0.1:443/blob/amlx")


def test_studio_links_have_the_service_s_form():
    scope = (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )
    link = doors.CLOUD.studio("job1", scope)
    assert link == (
        "https://ml.azure.com/runs/job1?wsid=/subscriptions/s/resourceGroups/g/workspaces/w"
    )
