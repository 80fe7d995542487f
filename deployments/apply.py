"""Register everything with a Prefect server: work pools, deployments with their schedules, automations.

    python -m deployments.apply                    # process workers
    python -m deployments.apply --type kubernetes  # the pools of a cluster; or docker
    python -m deployments.apply --deployments FILE # deployments of your own instead of prefect.yaml

Applying twice changes nothing: Prefect's variable `nightshift_applied` holds digests of the applied definitions, and
only definitions that differ are applied. So changes that people make in the UI (limits, parameters, schedules,
automations) stay until the definition here changes. Even then a schedule or automation stays paused or active as people
left it: the `active` of a schedule in the file is only its initial state.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from deployments.applied import Applied
from deployments.automations import ServerIds, apply_automations
from deployments.stored_parameters import (
    described,
    former_names_in,
    rewrite_definition,
    with_current_parameters,
)
from tasks.connectors.servers.local_servers import require_prefect
from tasks.core.errors import NightshiftError, ServiceError, SettingsError
from tasks.core.parsing.bounded_yaml import load_yaml
from tasks.runtime.local_services import require_login, set_client_defaults
from tasks.runtime.settings import read_settings

HERE = Path(__file__).parent
DEPLOYMENTS = HERE / "prefect.yaml"
POOLS = HERE / "pools"
OWNED = "nightshift-"  # slugs of the schedules in prefect.yaml
_POOLS = {
    "cpu": "Everything but training: preparing, evaluating, registering, scoring.",
    "gpu": "Training. One at a time and GPU.",
}


def main(arguments: list[str] | None = None) -> int:
    """Apply everything, and print what was done; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.apply")
    parser.add_argument("--type", choices=pool_types(), default="process")
    parser.add_argument("--deployments", type=Path, default=DEPLOYMENTS, metavar="FILE")
    options = parser.parse_args(arguments)
    set_client_defaults()
    try:
        settings = read_settings()
        if not settings.prefect_api_url:
            raise SettingsError(
                "No Prefect server is configured", "PREFECT_API_URL", "set it, or use `make up`"
            )
        require_prefect(settings.prefect_api_url)
        require_login(settings)
        done = apply(options.type, options.deployments.absolute())
    except NightshiftError as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print("\n".join(done) if done else "Nothing to do: everything is registered and up to date.")
    return 0


def apply(pool_type: str = "process", file: Path = DEPLOYMENTS) -> list[str]:
    """Bring the server to the state of the files; return what was done, one line each.

    Args:
        pool_type: the type of both work pools, one of `pool_types()`.
        file: the deployments. A registered deployment that is no longer in it is deleted.

    Raises:
        ServiceError: a pool of another type exists, or Prefect refuses.
        SettingsError: the file does not exist; then nothing is changed.
    """
    with get_client(sync_client=True) as client:
        applied, ids = Applied(), ServerIds(client, read_settings().notification_block)
        entries = definitions(file)
        done = [
            *_apply_pools(client, applied, pool_type),
            *_apply_deployments(client, applied, entries, file),
            *apply_automations(client, applied, ids),
        ]
        applied.save()
    return done


def pool_types() -> list[str]:
    """Return the types of work pools that have a template in `deployments/pools/`."""
    return sorted(path.stem for path in POOLS.glob("*.json") if "-" not in path.stem)


def pool_template(pool_type: str, pool: str) -> dict[str, Any]:
    """Return the base job template of a pool: the type's own for this pool, or else the type's."""
    special = POOLS / f"{pool_type}-{pool}.json"
    file = special if special.is_file() else POOLS / f"{pool_type}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def _apply_pools(client: SyncPrefectClient, applied: Applied, pool_type: str) -> Iterator[str]:
    for name, description in _POOLS.items():
        template = pool_template(pool_type, name)
        differs = applied.differs(f"pool:{name}", [pool_type, template, description])
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(
                    name=name,
                    type=pool_type,
                    description=description,
                    base_job_template=template,
                )
            )
            yield f"created the {pool_type} pool {name}"
            continue
        if pool.type != pool_type:
            raise ServiceError(
                f"The work pool {name!r} has type {pool.type}, not {pool_type}",
                "",
                "pass its type with --type, or delete the pool in the UI",
            )
        if differs:
            update = WorkPoolUpdate(description=description, base_job_template=template)
            client.update_work_pool(name, update)
            yield f"updated the pool {name}"


def _apply_deployments(
    client: SyncPrefectClient, applied: Applied, entries: list[dict[str, Any]], file: Path
) -> Iterator[str]:
    changed: dict[str, DeploymentResponse | None] = {}
    renamed: list[str] = []
    slugs: dict[str, set[str]] = {}
    flows: dict[str, Flow[..., Any]] = {}
    for entry in entries:
        flow = load(entry["entrypoint"])
        full_name = f"{flow.name}/{entry['name']}"
        flows[full_name] = flow
        renamed += [
            f"{change} in the parameters of {full_name}; change {file.name}, too"
            for change in rewrite_definition(flow, entry)
        ]
        schema = parameter_schema(flow).model_dump()
        differs = applied.differs(f"deployment:{full_name}", [entry, schema])
        before = _deployment(client, full_name)
        slugs[full_name] = {schedule["slug"] for schedule in entry.get("schedules", ())}
        if (
            differs or before is None or not before.work_pool_name
        ):  # it or its pool was deleted by hand
            changed[full_name] = before
    try:
        if changed:
            with _file_to_deploy(file, entries, bool(renamed)) as current:
                _deploy(list(changed), current)
    finally:  # also after an error: what people have set in the UI must not be lost
        for full_name, before in changed.items():
            if before:
                renamed += _mend(client, flows[full_name], full_name, before, slugs[full_name])
    yield from renamed
    for full_name, before in changed.items():
        yield f"{'updated' if before else 'registered'} the deployment {full_name}"
    for full_name in applied.gone("deployment:"):
        if obsolete := _deployment(client, full_name):
            client.delete_deployment(obsolete.id)
            yield f"deleted the deployment {full_name}, which is no longer defined"


def definitions(file: Path = DEPLOYMENTS) -> list[dict[str, Any]]:
    """Return the deployments of prefect.yaml. Raises SettingsError if it is missing or is not such a file."""
    try:
        content: Any = load_yaml(file.read_text(encoding="utf-8"))
        entries: list[dict[str, Any]] = content["deployments"]
    except (OSError, yaml.YAMLError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise SettingsError(
            f"Cannot read the deployments in {file}: {error!r}", "--deployments"
        ) from error
    return entries


def load(entrypoint: str) -> Flow[..., Any]:
    """Import the flow that a module entrypoint names."""
    module, _, name = entrypoint.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _deployment(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


@contextmanager
def _file_to_deploy(
    file: Path, entries: list[dict[str, Any]], is_rewritten: bool
) -> Generator[Path]:
    """Yield the file, or a temporary copy with the rewritten deployments."""
    if not is_rewritten:
        yield file
        return
    content: Any = load_yaml(file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="nightshift-") as folder:
        copy = Path(folder, file.name)
        copy.write_text(yaml.safe_dump({**content, "deployments": entries}), encoding="utf-8")
        yield copy


def _deploy(full_names: list[str], file: Path) -> None:
    """Run Prefect's own command, which reads the file, the entrypoints and the forms."""
    names = [part for full_name in full_names for part in ("-n", full_name.rpartition("/")[2])]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *names, "--prefect-file", file],
        cwd=HERE.parent,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [*done.stdout[-1500:].split("\n"), *done.stderr[-1500:].split("\n")]
        output = " / ".join(line.strip() for line in lines if line.strip())
        raise ServiceError(f"Prefect refuses the deployments: {output}", str(file))


def _mend(
    client: SyncPrefectClient,
    flow: Flow[..., Any],
    full_name: str,
    before: DeploymentResponse,
    slugs: set[str],
) -> list[str]:
    """Restore what people have set in the UI: deploying may replace all schedules, including those that people added.

    Their parameters get the current names of fields, without removed ones; the changes are returned, one line each.

    Args:
        before: the deployment as it was before deploying.
        slugs: the slugs of the schedules in its definition.
    """
    after = client.read_deployment_by_name(full_name)
    was_active = {s.slug: s.active for s in before.schedules if _is_owned(s)}
    for schedule in after.schedules:
        if _is_owned(schedule) and schedule.slug not in slugs:
            client.delete_deployment_schedule(after.id, schedule.id)
        elif was_active.get(schedule.slug, schedule.active) != schedule.active:
            client.update_deployment_schedule(after.id, schedule.id, active=not schedule.active)
    present = {schedule.id for schedule in after.schedules}
    changes: list[str] = []
    for schedule in before.schedules:
        if _is_owned(schedule):
            continue
        former, current = schedule.parameters, schedule.parameters
        try:
            current = with_current_parameters(flow, former)
        except SettingsError as error:  # a person must correct it; the other schedules go on
            changes.append(f"WARNING: a schedule of {full_name} cannot be rewritten: {error}")
        else:
            changes += [
                f"{described(name, path)} in a schedule of {full_name}"
                for name, path in former_names_in(flow, former).items()
            ]
        if schedule.id not in present:
            settings = schedule.model_dump(
                include={"schedule", "active", "slug", "max_scheduled_runs"}
            )
            again = DeploymentScheduleCreate.model_validate(settings | {"parameters": current})
            client.create_deployment_schedules(after.id, [again])
        elif current != former:
            client.update_deployment_schedule(after.id, schedule.id, parameters=current)
    if before.paused and not after.paused:
        client.pause_deployment(after.id)
    return changes


def _is_owned(schedule: DeploymentSchedule) -> bool:
    return bool(schedule.slug) and str(schedule.slug).startswith(OWNED)


if __name__ == "__main__":
    sys.exit(main())
