"""Deploy a registered model: the endpoint, the deployment, a first answer, its share of traffic."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aml_magics import client, documents, endpoints, examples, models, settings, traffic
from aml_magics.assets import Asset, find, named, plain
from aml_magics.errors import (
    AmlError,
    BadCommand,
    BadInput,
    DeploymentFailed,
    Detached,
    NotFound,
)
from aml_magics.records import Done, Text
from aml_magics.session import Session

Tell = Callable[[str], None]
DEFAULT_DEPLOYMENT = "blue"
DOT_SECONDS = 15.0
ENDPOINT_NAME = re.compile(r"[a-z](-?[a-z0-9])+", re.IGNORECASE)
NAME_LENGTHS = range(3, 33)
# A line of a server's log that somebody has to see even if all goes well.
WARNED = re.compile(r"WARNING (Other package versions than the model asks for: .*)")
# What a log or an error says, and what it means for who deploys; the first that fits is told.
CAUSES = (
    (
        r"No module named '([\w.]+)'",
        "the environment has no package {0}: add it, or log the model with extra_pip_requirements",
    ),
    (r"quota", "no quota for that machine: another --instance-type, or ask for more in the portal"),
    (r"OutOfCapacity|out of capacity", "the region has none of these machines: --instance-type"),
    (r"MemoryError|OOMKilled|out of memory", "the machine is too small: a larger --instance-type"),
    (
        r"UnpicklingError|InconsistentVersionWarning|Can't get attribute",
        "the model was saved with other versions of its packages than these",
    ),
    (r"ImageBuild|image build|ImagePull", "the environment could not be built"),
    (r"liveness|readiness|probe", "it did not answer in time: does it take long to load?"),
    (r"def init|init\(\)|scoring_script|score\.py", "the scoring script fails before it is asked"),
)


class Plan(NamedTuple):
    """What a deploy is about to do; shares are percents by deployment."""

    endpoint: str
    is_new: bool
    before: traffic.Shares
    after: traffic.Shares
    fields: dict[str, Any]  # of the deployment, as its YAML has them
    percent: int | None  # asked for
    existing: Any = None  # the SDK's deployment that is changed

    def shares(self, now: traffic.Shares) -> traffic.Shares:
        """Shares to set on those of now, which others may have moved since it was planned."""
        if self.percent is not None:
            return traffic.with_share(now, self.fields["name"], self.percent)
        return now if any(now.values()) else {self.fields["name"]: 100}


def deploy(
    session: Session,
    *,
    tell: Tell,
    model: str,
    endpoint: str = "",
    deployment: str = DEFAULT_DEPLOYMENT,
    traffic: list[str] | None = None,
    instance_type: str = "",
    instance_count: int | None = None,
    env_var: list[str] | None = None,
    code: str = "",
    scoring_script: str = "",
    environment: str = "",
    no_wait: bool = False,
    dry_run: bool = False,
) -> Asset | Done | Text:
    """Deploy a model to an online endpoint, either of which is made or changed.

    The endpoint's first deployment gets all of its traffic when it has answered the model's own
    input example; later ones get none, or `traffic` percent of it. Of a deployment that is there,
    what is not given stays as it is.

    Args:
        model: ``NAME``, ``NAME:VERSION``, ``NAME@ALIAS``, ``NAME@latest`` or MLflow's
        ``models:/NAME/VERSION``.
        endpoint: named like the model when left out. env_var: ``NAME=VALUE`` words.
        code, scoring_script, environment: what serves a model that is not MLflow's.
        dry_run: only say what would be done, as YAML.
    Raises: NotFound: no such model. DeploymentFailed: it did not become ready, or does not answer.
        Detached: the wait was interrupted.
    """
    with client.calling(session, hint="%aml model list") as ml:
        registered = find(ml, "model", models.versioned(session, model))
    given: dict[str, Any] = {
        "name": deployment,
        "endpoint_name": endpoint or default_name(registered.name),
        "model": f"azureml:{registered.name}:{registered.version}",
        "instance_type": instance_type,
        "instance_count": instance_count,
        "environment_variables": documents.assignments(env_var, "--env-var"),
        **_script(code, scoring_script, environment),
    }
    _check(session, given)
    plan = _plan(session, given, traffic)
    _check_served(registered, plan.fields)
    if dry_run:
        return Text(_documents(plan))
    tell(f"model {registered.name}:{registered.version}\n")
    if plan.is_new:
        _step(tell, f"endpoint {plan.endpoint}", lambda: _make_endpoint(session, plan, tell))
    if no_wait:
        _make_deployment(session, plan, None)
        return Done(f"deploying {deployment} to {plan.endpoint}; when it is ready: {_then(plan)}")
    _step(tell, f"deployment {deployment}", lambda: _make_deployment(session, plan, tell))
    lines = endpoints.last_lines(session, plan.endpoint, deployment)
    for warned in filter(None, map(WARNED.search, lines)):
        tell(f"{warned[1]}\n")
    if plan.after.get(deployment):
        _ask(session, tell, plan, registered)
    made = _share(session, plan)
    if not plan.existing:
        tell(f"delete it: {_deletion(plan)}\n")
    return made


def _then(plan: Plan) -> str:
    """What to type when a deployment that was not waited for is ready."""
    if plan.after == plan.before:
        return f"%aml endpoint show {plan.endpoint}"
    return f"%aml traffic {plan.endpoint} {traffic.said(plan.after)}"


def _deletion(plan: Plan) -> str:
    if plan.is_new:
        return f"%aml endpoint delete {plan.endpoint} --yes"
    return f"%aml online-deployment delete -n {plan.fields['name']} -e {plan.endpoint} --yes"


def default_name(model: str) -> str:
    """A valid name of an endpoint for a model of that name."""
    text = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    text = text if text[:1].isalpha() else f"m-{text}"
    text = text if len(text) in NAME_LENGTHS or len(text) > 3 else f"{text}-endpoint"
    return text[: NAME_LENGTHS[-1]].rstrip("-")


def check_name(name: str, what: str = "endpoint") -> None:
    """Refuse what Azure would: 3 to 32 letters, digits and hyphens, a letter first.

    Raises: BadInput: it cannot be the name of an endpoint or a deployment.
    """
    if len(name) not in NAME_LENGTHS or not ENDPOINT_NAME.fullmatch(name):
        rule = "3 to 32 letters, digits and single hyphens, a letter first"
        raise BadInput(f"'{name}' cannot be the name of the {what}: {rule}", f"--{what} NAME")


def cause(text: str) -> str:
    """What a failure's log most likely means; nothing when it is none of the known ones."""
    for pattern, meaning in CAUSES:
        if match := re.search(pattern, text):
            return meaning.format(*match.groups())
    return ""


def _script(code: str, scoring_script: str, environment: str) -> dict[str, Any]:
    """The fields of a deployment that say what serves its model."""
    if bool(code) != bool(scoring_script):
        raise BadCommand("--code and --scoring-script go together", "--code DIR --scoring-script F")
    fields: dict[str, Any] = {"environment": _asset(environment)} if environment else {}
    if code:
        fields["code_configuration"] = {"code": code, "scoring_script": scoring_script}
    return fields


def _check(session: Session, given: dict[str, Any]) -> None:
    """Refuse what cannot become a deployment, before its endpoint is made.

    Raises: BadInput: a name, a count, a folder or a script. NotFound: no such environment.
    """
    check_name(given["endpoint_name"])
    check_name(given["name"], "deployment")
    if given["instance_count"] == 0:
        raise BadInput("a deployment has 1 instance or more", "--instance-count 1")
    if script := given.get("code_configuration"):
        _check_script(Path(script["code"]).expanduser(), script["scoring_script"])
    name, version, label = named(given.get("environment", ""))
    if name and not given["environment"].startswith("azureml://"):
        with client.calling(session, hint="%aml environment list") as ml:
            find(ml, "environment", name, version, label=label)


def _check_script(folder: Path, script: str) -> None:
    if not folder.is_dir():
        raise BadInput(f"--code: there is no folder {folder}", "the folder with the script")
    if not (folder / script).is_file():
        known = ", ".join(sorted(path.name for path in folder.glob("*.py"))) or "no Python file"
        raise BadInput(f"--scoring-script: {folder} has no {script}", f"it has {known}")


def _check_served(model: Any, fields: dict[str, Any]) -> None:
    if "code_configuration" not in fields and str(model.type) != "mlflow_model":
        told = f"{model.name}:{model.version} is no MLflow model: it needs a scoring script"
        raise BadInput(told, hint="--code DIR --scoring-script score.py --environment NAME@latest")


def _asset(text: str) -> str:
    """An environment's name, version and label as the SDK takes them."""
    name, version, label = named(text)
    if text.startswith(("azureml:", "azureml://")) or not (version or label):
        return text if text.startswith("azureml") else f"azureml:{text}@latest"
    return f"azureml:{name}" + (f":{version}" if version else f"@{label}")


def _plan(session: Session, given: dict[str, Any], asked: list[str] | None) -> Plan:
    """Compare what is wanted with what is there.

    Raises: BadCommand: the share is none.
    """
    name = given["endpoint_name"]
    try:
        with client.calling(session) as ml:
            before, is_new = dict(ml.online_endpoints.get(name).traffic or {}), False
            there = {one.name: one for one in ml.online_deployments.list(name)}
    except NotFound:
        before, is_new, there = {}, True, {}
    existing = there.get(given["name"])
    percent = _percent(asked) if asked else None
    plan = Plan(name, is_new, before, before, _fields(given, existing), percent, existing)
    return plan._replace(after=plan.shares(before))


def _fields(given: dict[str, Any], existing: Any) -> dict[str, Any]:
    """The fields of a deployment: those given, else those it has, else the usual ones."""
    usual = {"instance_type": settings.get("instance_type"), "instance_count": 1}
    had = {key: getattr(existing, key, None) for key in (*usual, "environment")}
    variables = {
        **(getattr(existing, "environment_variables", None) or {}),
        **given["environment_variables"],
    }
    if script := getattr(existing, "code_configuration", None):
        had["code_configuration"] = {
            "code": str(script.code),
            "scoring_script": str(script.scoring_script),
        }
    parts = ({**given, "environment_variables": variables}, had, usual)
    keys = dict.fromkeys(key for part in parts for key in part)
    found = {key: next((part[key] for part in parts if part.get(key)), None) for key in keys}
    return {key: value for key, value in found.items() if value}


def _percent(words: list[str]) -> int:
    if len(words) != 1 or not words[0].isdigit() or int(words[0]) > 100:
        raise BadCommand(f"--traffic cannot be '{' '.join(words)}'", hint="a percentage: 10")
    return int(words[0])


def _documents(plan: Plan) -> str:
    """The YAML that `az ml` would take, and what becomes of the traffic."""
    made = [{"name": plan.endpoint, "auth_mode": "key"}] if plan.is_new else []
    shown = yaml.safe_dump_all([*made, plan.fields], sort_keys=False)
    before, after = (traffic.said(shares) or "none" for shares in (plan.before, plan.after))
    return f"{shown.rstrip()}\n# traffic: {before} → {after}"


def _step(tell: Tell, what: str, do: Callable[[], None]) -> None:
    tell(f"{what} … ")
    started = time.monotonic()
    do()
    tell(f"ready after {time.monotonic() - started:.0f} s\n")


def _make_endpoint(session: Session, plan: Plan, tell: Tell) -> None:
    with client.calling(session, hint="names are taken per region: --endpoint NAME") as ml:
        made = client.sdk().entities.ManagedOnlineEndpoint(name=plan.endpoint, auth_mode="key")
        _wait(client.begun(ml.online_endpoints.begin_create_or_update, made), tell, plan)


def _make_deployment(session: Session, plan: Plan, tell: Tell | None) -> None:
    """Make or change it, and wait until it is ready if there is somebody to tell."""
    try:
        with client.calling(session) as ml:
            poller = client.begun(ml.online_deployments.begin_create_or_update, _entity(plan))
            if tell:
                _wait(poller, tell, plan)
    except Detached:
        raise
    except AmlError as error:
        if tell:
            tell("failed\n")
        raise _failed(session, plan, str(error)) from error


def _entity(plan: Plan) -> Any:
    """The SDK's deployment; one that is there keeps what has no flag, such as its probes."""
    entities = client.sdk().entities
    fields = dict(plan.fields)
    if code := fields.pop("code_configuration", None):
        fields["code_configuration"] = entities.CodeConfiguration(**code)
    if plan.existing is None:
        return entities.ManagedOnlineDeployment(**fields)
    for key, value in fields.items():
        setattr(plan.existing, key, value)
    return plan.existing


def _wait(poller: Any, tell: Tell, plan: Plan) -> None:
    """Wait for what Azure does meanwhile, with a dot now and then.

    Raises: Detached: interrupted; it goes on.
    """
    try:
        while not poller.done():
            poller.wait(DOT_SECONDS)
            if not poller.done():
                tell(". ")
        poller.result()
    except KeyboardInterrupt:
        tell("\n")
        line = f"%aml endpoint show {plan.endpoint}"
        raise Detached(f"not waiting any more: {plan.endpoint} goes on", hint=line) from None


def _failed(session: Session, plan: Plan, message: str) -> DeploymentFailed:
    """Why a deployment failed, with its last words, the likely cause and what to type next.

    An endpoint that was made for a deployment which is refused is not left behind.
    """
    name = plan.fields["name"]
    lines = endpoints.last_lines(session, plan.endpoint, name)
    meaning = cause("\n".join([message, *lines]))
    likely = f"likely: {meaning}; " if meaning else ""
    if plan.is_new and not _is_there(session, plan):
        endpoints.delete(session, endpoint=plan.endpoint, yes=True)
        hint = f"{likely}nothing was made: change the line and run it again"
        return DeploymentFailed(message, hint=hint)
    hint = f"{likely}%aml endpoint logs {plan.endpoint} --deployment {name}"
    if plan.is_new:
        hint += f"; the endpoint stays: %aml endpoint delete {plan.endpoint} --yes"
    return DeploymentFailed(message.splitlines()[0], hint=hint, detail=lines)


def _is_there(session: Session, plan: Plan) -> bool:
    with client.calling(session) as ml:
        names = [one.name for one in ml.online_deployments.list(plan.endpoint)]
    return plan.fields["name"] in names


def _ask(session: Session, tell: Tell, plan: Plan, model: Any) -> None:
    """Ask a deployment before it gets traffic.

    Raises: DeploymentFailed: it does not answer the model's own input example.
    """
    try:
        example = examples.of_model(session, model.name, model.version)
    except AmlError:  # not MLflow's, or of a registry
        example = None
    if example is None:
        tell("not asked before it gets traffic: the model has no input example\n")
        return
    try:
        endpoints.score(session, plan.endpoint, example.body, plan.fields["name"])
        tell(f"asked with its {example.source}: it answers\n")
    except AmlError as error:
        if example.source == "signature":  # such values may be none that it takes
            tell(f"asked with a row made from its signature: {error}\n")
            return
        read = f"%aml endpoint logs {plan.endpoint} --deployment {plan.fields['name']}"
        told = f"it is ready, and gets no traffic: asked with its {example.source}: {error}"
        raise DeploymentFailed(told, hint=read) from error


def _share(session: Session, plan: Plan) -> Asset:
    with client.calling(session) as ml:
        current = ml.online_endpoints.get(plan.endpoint)
        now = dict(current.traffic or {})
        if (shares := plan.shares(now)) != now:
            current = traffic.send(ml, current, shares)
        return Asset("online-endpoint", plain(current))
