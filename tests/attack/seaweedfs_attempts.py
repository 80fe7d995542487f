"""What is tried of SeaweedFS: every port it listens on, and its own shell."""

from pathlib import Path
from typing import Any

from tests.attack.answers import Attempt
from tests.attack.laid_out import BUCKET, KEY, SPARE_BUCKET, LaidOut
from tests.attack.prefect_attempts import FOREIGN, http
from tests.attack.subjects import Port

_NAME = "SeaweedFS"
# A key pair that the attacker makes for himself, if he can.
_KEY, _SECRET = "attackattackattack00", "attackattackattackattackattackattack0000"
_PATHS = {
    "master.port": (
        "/",
        "/dir/assign",
        "/dir/status",
        "/dir/lookup?volumeId=1",
        "/vol/status",
        "/cluster/status",
        "/cluster/healthz",
        "/stats/memory",
        "/stats/counter",
        "/ui/index.html",
    ),
    "volume.port": ("/", "/status", "/ui/index.html", "/healthz", "/stats/disk", "/1,01637037d6"),
    "filer.port": (
        "/",
        "/buckets/",
        f"/buckets/{BUCKET}/{KEY}",
        f"/buckets/{BUCKET}/{KEY}?metadata=true",
        "/etc/iam/identity.json",
        "/etc/iam/identities/",
        "/topics/",
        "/healthz",
        "/status",
    ),
    "admin.port": (
        "/",
        "/health",
        "/api/cluster/topology",
        "/api/s3/buckets",
        "/object-store/users",
    ),
}
_ANYWHERE = ("/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/vars")


def _flag(port: Port) -> str:
    return port.name.removeprefix(f"{_NAME} ")


def reads(ports: list[Port], laid: LaidOut) -> list[Attempt]:
    """Every port with HTTP, with TLS and with gRPC, each without a certificate; then what is known of each."""
    made: list[Attempt] = []
    for port in ports:
        flag = _flag(port)
        if flag == "s3.port":
            continue
        for tls in (False, True):
            url = f"http{'s' if tls else ''}://{port.host}:{port.number}"
            if flag.endswith(".grpc"):
                action = {"do": "grpc", "host": port.host, "port": port.number, "tls": tls}
                tried = f"gRPC, no certificate{', TLS' if tls else ''}"
                made.append(Attempt(target=port.name, tried=tried, action=action))
                paths: tuple[str, ...] = ("/",)
            else:
                paths = (*_PATHS.get(flag, ("/",)), *_ANYWHERE)
            made += [_over(http(port.name, url + path), tls) for path in paths]
    return made


def _over(attempt: Attempt, tls: bool) -> Attempt:
    return attempt.model_copy(update={"tried": f"{attempt.tried}, TLS"}) if tls else attempt


def s3_reads(url: str, access_key: str) -> list[Attempt]:
    """The S3 port: nothing signed, or signed with a key that is not right."""
    target, place = f"{_NAME} s3.port", f"{url}/{BUCKET}/{KEY}"
    expired = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z&X-Amz-Expires=604800"
    expired += f"&X-Amz-SignedHeaders=host&X-Amz-Signature={'0' * 64}"
    expired += f"&X-Amz-Credential={access_key}/20260101/us-east-1/s3/aws4_request"
    made = [
        http(target, f"{url}{path}", note="unsigned")
        for path in ("/", f"/{BUCKET}", f"/{BUCKET}?list-type=2", f"/{BUCKET}/{KEY}", "/status")
    ]
    made += [http(target, f"{url}{path}", note="unsigned") for path in ("/healthz", *_ANYWHERE)]
    made.append(http(target, f"{place}?{expired}", note="presigned with a wrong key"))
    made.append(http(target, place, headers={"Origin": FOREIGN}, note="from a foreign page"))
    preflight = {"Origin": FOREIGN, "Access-Control-Request-Method": "PUT"}
    made.append(http(target, place, "OPTIONS", headers=preflight, note=f"preflight from {FOREIGN}"))
    for action in (
        "CreateAccessKey&UserName=attacker",
        "ListUsers",
        "CreateUser&UserName=attacker",
    ):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        made.append(http(target, f"{url}/", "POST", f"Action={action}", headers, f"IAM {action}"))
    for name, pair in (
        ("a made-up key", f"{_KEY}:{_SECRET}"),
        ("a wrong secret", f"{access_key}:x"),
    ):
        made.append(_signed(f"GET /{BUCKET}/{KEY}, signed with {name}", pair, [place]))
    return made


def _signed(tried: str, pair: str, arguments: list[str]) -> Attempt:
    signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", pair]
    action: dict[str, Any] = {"do": "curl", "arguments": [*signing, *arguments]}
    return Attempt(target=f"{_NAME} s3.port", tried=tried, action=action)


def writes(ports: list[Port], s3_url: str, folder: Path, seconds: float) -> list[Attempt]:
    """Overwrite a review, take a place for a new file, and make an administrator's key by SeaweedFS's own shell.

    Args:
        ports: of SeaweedFS.
        s3_url: of the S3 port.
        folder: that anybody may write to, with the program `weed` in it.
        seconds: after which the shell is ended.
    """
    at = {_flag(p): p for p in ports}
    made: list[Attempt] = []
    for scheme in ("http", "https"):
        tls = scheme == "https"
        filer, master = (_url(scheme, at[name]) for name in ("filer.port", "master.port"))
        new = f"{filer}/buckets/{BUCKET}/labelled/planted.jsonl"
        made.append(_over(http(at["filer.port"].name, new, "PUT", "planted"), tls))
        for path in ("/vol/grow?count=1&collection=attack", "/vol/vacuum", "/dir/assign?count=1"):
            made.append(_over(http(at["master.port"].name, master + path), tls))
        made.append(_over(http(at["master.port"].name, f"{master}/submit", "POST", "x"), tls))
    place = f"{s3_url}/{BUCKET}/{KEY}"
    made.append(http(f"{_NAME} s3.port", place, "PUT", "overwritten", note="unsigned"))
    made.append(http(f"{_NAME} s3.port", f"{s3_url}/attack", "PUT", "", note="unsigned"))
    made += _shell(at["master.port"], at["master.port.grpc"], folder, seconds)
    made.append(
        _signed("GET / with the key made in the shell", f"{_KEY}:{_SECRET}", [f"{s3_url}/"])
    )
    made.append(_signed(f"GET /{BUCKET}/{KEY} with that key", f"{_KEY}:{_SECRET}", [place]))
    return made


def _url(scheme: str, port: Port) -> str:
    return f"{scheme}://{port.host}:{port.number}"


_OWN_CERTIFICATE = """
mkdir -p $HOME/.seaweedfs && cd $HOME/.seaweedfs &&
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=client 2>/dev/null &&
cat > security.toml <<END
[grpc]
ca = "$HOME/.seaweedfs/cert.pem"
[grpc.client]
cert = "$HOME/.seaweedfs/cert.pem"
key = "$HOME/.seaweedfs/key.pem"
END
exec "$@"
"""


def _shell(master: Port, grpc: Port, folder: Path, seconds: float) -> list[Attempt]:
    """SeaweedFS's shell, first as it comes, then with a certificate that the attacker signs himself."""
    make = f"s3.configure -user=attacker -access_key={_KEY} -secret_key={_SECRET} -actions=Admin -apply"
    said = f"{make}\nfs.ls /buckets\nexit\n"
    shell = [str(folder / "weed"), "shell", f"-master={master.host}:{master.number}.{grpc.number}"]
    plain = {"do": "program", "command": shell, "stdin": said, "seconds": seconds}
    own = plain | {"command": ["/bin/sh", "-c", _OWN_CERTIFICATE, "sh", *shell]}
    return [
        Attempt(
            target=f"{_NAME} master.port.grpc",
            tried=f"weed shell: make a key{note}",
            action=action | {"environment": {"HOME": str(folder / name)}, "folder": str(folder)},
        )
        for note, name, action in ((", own certificate", "own", own), ("", "plain", plain))
    ]


def destruction(ports: list[Port], s3_url: str) -> list[Attempt]:
    """Delete the review, then the bucket."""
    at = {_flag(p): p for p in ports}
    place = f"/{BUCKET}/{KEY}"
    made = [http(f"{_NAME} s3.port", s3_url + place, "DELETE", note="unsigned")]
    made.append(http(f"{_NAME} s3.port", f"{s3_url}/{BUCKET}", "DELETE", note="unsigned"))
    delete = f"/{BUCKET}?delete"
    body = f"<Delete><Object><Key>{KEY}</Key></Object></Delete>"
    made.append(http(f"{_NAME} s3.port", s3_url + delete, "POST", body, note="unsigned"))
    for scheme in ("https", "http"):
        tls = scheme == "https"
        filer, master = (_url(scheme, at[name]) for name in ("filer.port", "master.port"))
        made.append(_over(http(at["filer.port"].name, f"{filer}/buckets{place}", "DELETE"), tls))
        for bucket in (BUCKET, SPARE_BUCKET):
            path = f"{master}/col/delete?collection={bucket}"
            made.append(_over(http(at["master.port"].name, path), tls))
    return made
