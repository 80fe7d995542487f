"""The allow-list: what counts as refused, what is allowed, and that anything else is a miss."""

import pytest

from tests.attack.answers import ALLOWED, HAD, REFUSED, Answer, Attempt, verdict


def why(tried: str, answer: Answer, target: str = "Prefect", secrets: tuple[str, ...] = ()) -> str:
    attempt = Attempt(target=target, tried=tried, action={})
    return verdict(attempt, answer, secrets).why


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=401, text='{"exception_message":"Unauthorized"}'),
        Answer(status=403, text="<Code>AccessDenied</Code>"),
        Answer(status=400, text="Client sent an HTTP request to an HTTPS server.\n"),
        Answer(status=1008, error="closed by the server with 1008"),
        Answer(error="ConnectionRefusedError: [Errno 111] Connection refused"),
        Answer(error="SSLError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] certificate required"),
        Answer(error="PermissionError: [Errno 13] Permission denied"),
        Answer(error="none of 84 opened"),
        Answer(text="-NOAUTH Authentication required.\r\n"),
        Answer(text="R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"),
        Answer(error="TypeError: Failed to fetch"),
    ],
)
def test_a_refusal_is_told(answer: Answer) -> None:
    assert why("GET /api/anything", answer) == REFUSED


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=200, text="[]"),
        Answer(status=204),
        Answer(status=404, text='{"detail":"Not Found"}'),
        Answer(status=422, text='{"detail":"Field required"}'),
        Answer(status=500),
        Answer(status=400, text='{"error":"collection x does not exist"}'),
        Answer(status=101, text="open and stays open"),
        Answer(status=1002, text='{"type":"auth_success"}', error="closed by the server with 1002"),
        Answer(status=1008, text='{"type":"event"}', error="closed by the server with 1008"),
        Answer(text='{"type":"event"}', error="closed by the server"),
        Answer(status=200, error="the page may not read it: opaque"),
        Answer(status=3, text="read /home/a"),
        Answer(text="+PONG\r\n"),
        Answer(text="R\0\0\0\x08\0\0\0\0"),
        Answer(error="TimeoutError: timed out"),
        Answer(),
    ],
)
def test_anything_else_is_a_miss(answer: Answer) -> None:
    assert why("GET /api/anything", answer) == HAD


def test_health_and_pages_are_allowed_and_only_as_they_are() -> None:
    assert why("GET /api/health", Answer(status=200, text="true")) == "health and ready answers"
    assert why("GET /api/health", Answer(status=200, text='{"runs": 3}')) == HAD
    assert why("POST /api/health", Answer(status=200, text="true")) == HAD
    page = Answer(status=200, text="<!DOCTYPE html> <html>")
    assert why("GET /v2/", page) == "UI files"
    assert why("GET /api/flows", page) == HAD
    assert why("GET /v2/", page, target="SeaweedFS filer.port") == HAD
    assert why("GET /docs", Answer(status=200, text='[{"id": 1}]')) == HAD


def test_a_secret_in_an_answer_is_a_miss_whatever_the_answer() -> None:
    for answer in (
        Answer(status=401, text="no: hunter2"),
        Answer(status=200, text="<!DOCTYPE html> hunter2"),
        Answer(error="PermissionError: hunter2"),
    ):
        assert why("GET /v2/", answer, secrets=("hunter2",)) == HAD
        assert why("GET /v2/", answer) != HAD


def test_a_database_that_answers_is_a_miss() -> None:
    no = Answer(status=2, text='psql: FATAL:  password authentication failed for user "mlflow"')
    assert why("psql as mlflow, password mlflow", no, "PostgreSQL") == REFUSED
    assert why("psql as mlflow, password mlflow", Answer(status=0, text="1\n"), "PostgreSQL") == HAD
    assert why("INFO", Answer(text="$5123\r\n# Server"), "Redis") == HAD


def test_a_page_that_reaches_mlflow_with_its_readers_login_is_a_miss() -> None:
    tried = "owner logged in, page on 127.0.0.1: GET /api/2.0/mlflow/experiments/get, img"
    unread = "the page may not read it: img error"
    assert why(tried, Answer(status=200, error=unread), "MLflow") == HAD
    assert why(tried, Answer(status=403, error=unread), "MLflow") == REFUSED


def test_a_shell_that_gets_in_is_a_miss() -> None:
    said = Answer(text='I0101 wdclient\n"credentials": [{ "accessKey": "attack" }]')
    silent = Answer(error="no end within 10 s")
    target = "SeaweedFS master.port.grpc"
    assert why("weed shell: make a key", said, target) == HAD
    assert why("weed shell: make a key", silent, target) == REFUSED


def test_every_entry_says_what_it_is_for() -> None:
    assert all(entry.why and entry.why != HAD and entry.text for entry in ALLOWED)
