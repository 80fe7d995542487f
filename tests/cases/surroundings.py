"""Where a person works: settings, servers that are away, proxies, terminals, words typed wrongly, things deleted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow import MlflowClient

from tests.cases.case import Case, Files, Found, both, done, fails, fast_retrain, scored
from tests.cases.hostile_files import good
from tests.cases.labelled_files import labelled, retraining, says
from tests.cases.servers import Bench
from tests.connectors.storage.checksum_servers import Between, insists

_DEAD = "http://127.0.0.1:9"
_SECONDS = 150.0
_GOOD: Callable[[], Files] = lambda: {"a.jsonl": good("a")}  # noqa: E731
_LABELLED: Callable[[], Files] = lambda: {"reviews.csv": labelled(["neg", "pos"])}  # noqa: E731
_LOADED = (
    "import mlflow; uri = 'models:/loaded-{side}@challenger'; texts = ['fine', 'dull ' * 900]; "
    "print('says', list(mlflow.pyfunc.load_model(uri).predict(texts)['label']), "
    "mlflow.transformers.load_model(uri)('fine')[0]['label'])"
)


def _nothing() -> Files:
    return {}


def _trained(bench: Bench, code: Path, command: list[str]) -> None:
    ended = bench.command(code, command, 900.0)
    if ended.status:
        raise RuntimeError(f"What is to be deleted cannot be made:\n{ended.text[-3000:]}")


def _without_runs(bench: Bench, code: Path, command: list[str]) -> Mapping[str, str]:
    """The same retraining before, whose runs a person deletes."""
    _trained(bench, code, command)
    client = MlflowClient(bench.environment["MLFLOW_TRACKING_URI"])
    experiment: Any = client.get_experiment_by_name("nightshift")
    for run in client.search_runs([experiment.experiment_id]):
        client.delete_run(run.info.run_id)
    return {}


def _registered(bench: Bench, code: Path, command: list[str]) -> Mapping[str, str]:
    """A version of a side's own."""
    side = command[-1].partition("loaded-")[2].partition("@")[0]
    bench.store.write_bytes(labelled(["neg", "pos"]), f"s3://nightshift/cases/loaded-{side}/r.csv")
    given = fast_retrain(f"s3://nightshift/cases/loaded-{side}/", f"loaded-{side}")
    _trained(bench, code, [part.format(base=bench.base) for part in given])
    return {}


def _strict(bench: Bench, _code: Path, _command: list[str]) -> Mapping[str, str]:
    """A server before the store that refuses writes without a checksum, as a bucket with Object Lock."""
    target: Any = SimpleNamespace(endpoint_url=bench.environment["AWS_ENDPOINT_URL_S3"])
    return {"AWS_ENDPOINT_URL_S3": Between(target, insists).endpoint_url}


def refused(name: str, seen: str, command: list[str], *words: str, **variables: str | None) -> Case:
    """A wrong input: the error is one sentence that has these words, and no more than a few lines stand beside it."""

    def short(found: Found) -> str:
        lines = len(found.text.splitlines())
        told = found.text.count(words[0])
        if lines > 40:
            return f"{lines} lines"
        return f"told {told} times" if told > 1 else ""

    check = both(fails(*words), short)
    return Case(
        name, seen, f"one sentence: {', '.join(words)}", _nothing, check, command, 60.0, variables
    )


REFUSED = [
    refused("first-command", "149 lines of the hub client's stack trace",
            ["retrain", "--data.source.location", "reviews/"],
            "No such file or folder", "check data.source.location"),
    refused("no-server", "187 lines of stack trace", ["history"],
            "Not the address of an S3 server", AWS_ENDPOINT_URL_S3="htp//x"),
    refused("home-is-a-file", "a stack trace", ["history"],
            "'/etc/passwd' is a file, not a folder", NIGHTSHIFT_HOME="/etc/passwd"),
    refused("unknown-setting", "passed over in silence", ["history"],
            "did you mean NIGHTSHIFT_BUCKET?", NIGHTSHIFT_BUKET="reviews"),
    refused("dead-store", "377 s without a line", ["history"],
            "error: StoreUnavailableError", "correct AWS_ENDPOINT_URL_S3", AWS_ENDPOINT_URL_S3=_DEAD),
    refused("typed-wrongly", "did you mean --pretraining.location", ["retrain", "--location", "x"],
            "did you mean --data.source.location"),
    refused("flow-typed-wrongly", "the list of flows alone", ["retrian"], "did you mean retrain?"),
    refused("upper-case-bucket", "String should match pattern '^s3://[^/]+'; or no such bucket",
            ["score", "--input", "s3://Reviews/in"], "'s3://Reviews/in' is not of the form s3://bucket/prefix"),
    refused("one-slash", "String should match pattern '^s3://[^/]+'",
            ["score", "--input", "s3:/reviews/in"], "'s3:/reviews/in' is not of the form s3://bucket/prefix"),
    refused("no-such-model", "no move, exit status 0", ["history", "--model-name", "nosuch"],
            "The registry has no model 'nosuch'"),
    refused("no-home", "a stack trace, or works where the account is known", ["history"],
            "set HOME, or write the whole path", NIGHTSHIFT_HOME="~nobody-of-that-name/x", HOME=None),
]  # fmt: skip
CASES = [
    *REFUSED,
    Case("proxy", "nothing embedded is reached, a minute, wrong advice", "loopback goes through no proxy",
         _GOOD, both(done, scored(a=2)),
         environment={"HTTP_PROXY": _DEAD, "http_proxy": _DEAD, "NO_PROXY": None, "no_proxy": None}),
    Case("locale", "UnicodeEncodeError when a name or an emoji is printed", "nothing printed can end a run",
         lambda: {"a.jsonl": good("a"), "\U0001f600.jsonl": b"no json\n"},
         both(fails(r"\U0001f600.jsonl"), scored(a=2)),
         environment={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}),
    Case("strict-bucket", "every write refused: a PUT needs a checksum", "written with boto3's checksums",
         _GOOD, both(done, scored(a=2)), prepare=_strict),
    Case("deleted-run", "check that the MLflow server is reachable, for ever", "a new run takes its place",
         _LABELLED, both(done, says("is no longer in MLflow; .* takes its place")),
         retraining("deleted-run"), _SECONDS, prepare=_without_runs),
    Case("loaded-by-mlflow", "Failed to download an MLmodel", "pyfunc and transformers load it, long texts too",
         _nothing, both(done, says(r"says \['\w+', '\w+'\] \w+")), ["python", "-c", _LOADED], _SECONDS,
         prepare=_registered),
]  # fmt: skip
