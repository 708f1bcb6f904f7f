"""Who may come in, tested at the daemon's own door."""

import time

import jwt
import pytest
import requests

from aml_magics.local import identity

PATH = "/subscriptions/s/providers/Microsoft.MachineLearningServices/workspaces"


@pytest.fixture
def ask(address):
    session = requests.Session()
    session.trust_env = False

    def call(path=PATH, method="GET", host=None, **options):
        headers = {**({"Host": host} if host else {}), **options.pop("headers", {})}
        return session.request(
            method, address.url + path, headers=headers, allow_redirects=False, **options
        )

    yield call
    session.close()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "token",
    ["", "wrong", "a.b.c", "é", identity.issue("x", "another secret")],
)
def test_no_entry_without_a_valid_token(ask, token):
    answer = ask(headers={"Authorization": f"Bearer {token}".encode()})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "InvalidAuthenticationToken"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_tokens_of_the_daemon_open(ask, address):
    assert ask(headers=bearer(address.token)).status_code == 200
    assert ask(headers=bearer(identity.issue("x", address.token))).status_code == 200


def test_an_expired_token_does_not(ask, address):
    assert ask(headers=bearer(identity.issue("x", address.token, seconds=-1))).status_code == 401


def test_a_changed_claim_breaks_the_signature(ask, address):
    head, _, signature = identity.issue("x", address.token).split(".")
    _, later, _ = identity.issue("x", address.token, seconds=10**9).split(".")
    assert ask(headers=bearer(f"{head}.{later}.{signature}")).status_code == 401


def test_clients_can_read_a_token(address):
    claims = jwt.decode(
        identity.issue("https://ml.azure.com", address.token), options={"verify_signature": False}
    )
    assert {"oid", "tid", "exp", "aud"} <= claims.keys()
    assert claims["exp"] > time.time() + 3600


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "evil.azureml.ms"])
def test_other_host_names_are_refused(ask, address, host):
    assert ask(host=host, headers=bearer(address.token)).status_code == 421


def test_a_page_is_opened_once_with_the_token_and_then_by_cookie(ask, address):
    entry = ask(f"{PATH}?a=1&token={address.token}")
    assert (entry.status_code, entry.headers["location"]) == (303, f"{PATH}?a=1")
    flags = entry.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=lax" in flags
    cookie = {"Cookie": entry.headers["set-cookie"].partition(";")[0]}
    assert ask(headers=cookie).status_code == 200


def test_a_foreign_page_can_change_nothing_with_the_cookie(ask, address):
    cookie = {"Cookie": f"{identity.COOKIE}={identity.issue('pages', address.token)}"}
    foreign = {**cookie, "Origin": "http://127.0.0.1:1"}
    assert ask(method="POST", headers=foreign).status_code == 401
    assert ask(method="POST", headers=cookie).status_code == 401
    assert ask(method="POST", headers={**cookie, "Origin": address.url}).status_code != 401


def test_a_person_without_the_cookie_is_told_how_to_open_a_page(ask):
    refused = ask("/", headers={"Accept": "text/html,*/*"})
    assert refused.status_code == 401
    assert "aml-local status" in refused.text


def test_the_first_page_is_the_default_workspace_s(ask, address):
    page = ask("/", headers=bearer(address.token)).headers["location"]
    assert page.startswith(address.url)
    assert page.endswith("/workspaces/local/")
    shown = ask(page.removeprefix(address.url), headers=bearer(address.token))
    assert "<title>MLflow" in shown.text


def test_a_wrong_token_in_a_page_s_address_is_refused(ask):
    assert ask(f"{PATH}?token=wrong").status_code == 401


def test_a_client_secret_buys_a_token(ask, address):
    form = {"grant_type": "client_credentials", "client_id": "x", "scope": "https://a/.default"}
    path = "/login/tenant/oauth2/v2.0/token"
    bought = ask(path, "POST", data={**form, "client_secret": address.token}).json()
    assert ask(headers=bearer(bought["access_token"])).status_code == 200
    refused = ask(path, "POST", data={**form, "client_secret": "wrong"})
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    other = ask(path, "POST", data={"grant_type": "refresh_token"})
    assert (other.status_code, other.json()["error_codes"]) == (400, [70003])


def test_a_managed_identity_needs_its_header(ask, address):
    path = "/msi/token?resource=https://management.azure.com&api-version=2019-08-01"
    assert ask(path).status_code == 401
    answer = ask(path, headers={"X-IDENTITY-HEADER": address.token}).json()
    assert ask(headers=bearer(answer["access_token"])).status_code == 200
    assert int(answer["expires_on"]) > time.time()
