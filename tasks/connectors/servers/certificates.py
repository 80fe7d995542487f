"""Certificates and signing keys by which the parts of the object store authenticate one another, and `security.toml`.

SeaweedFS checks keys on its S3 port. Its master, volume, filer and admin ports, and all gRPC ports, are open to anybody
unless `security.toml` gives them certificates; signing keys alone leave `/col/delete` of the master open.

One certificate serves all parts, as they run in one process. The key of the authority that signed it is discarded, so
nobody can issue another. It is valid for ten years and renewed at the first start with less than one year left.

    python -m tasks.connectors.servers.certificates FOLDER HOST ...     for a container
"""

import ipaddress
import json
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tasks.connectors.private_files import write_private

AUTHORITY, CERTIFICATE, KEY, CONFIGURATION = "ca.pem", "store.pem", "store.key", "security.toml"
_VALID = timedelta(days=3650)
_RENEWED_BEFORE = timedelta(days=365)
_LOOPBACK = "127.0.0.1"
_AUTHORITY_NAME = "Nightshift object store authority"
_SIGNED = ("signing", "signing.read", "filer_signing", "filer_signing.read")
_GRPC_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_HTTP_PARTS = ("master", "volume", "filer", "admin", "client")


def secure_store(folder: Path, now: datetime, hosts: Sequence[str] = ()) -> None:
    """Write `security.toml` with fresh signing keys, and new certificates unless the present ones hold another year.

    Args:
        folder: for SeaweedFS's `-config_dir`; made with mode 0700, its files with 0600.
        now: timezone-aware.
        hosts: names, besides the loopback ones, under which the store's parts find one another.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    hosts = ["localhost", *hosts]
    if not _usable(folder, now, hosts):
        _make_certificates(folder, now, hosts)
    write_private(folder / CONFIGURATION, _configuration(folder.absolute()).encode())


def _usable(folder: Path, now: datetime, hosts: Sequence[str]) -> bool:
    """True for a complete, matching set that is valid long enough and whose key is not readable by others."""
    try:
        authority = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
        key = load_pem_private_key((folder / KEY).read_bytes(), None)
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            certificate.public_key() == key.public_key()
            and certificate.not_valid_before_utc <= now
            and now + _RENEWED_BEFORE <= certificate.not_valid_after_utc
            and set(hosts) <= set(names.get_values_for_type(x509.DNSName))
            and not (folder / KEY).stat().st_mode & 0o077
        )
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False


def _make_certificates(folder: Path, now: datetime, hosts: Sequence[str]) -> None:
    """Create an authority, and one certificate for the whole store, for use as a server and as a client."""
    issuer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        _begun(_AUTHORITY_NAME, issuer.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(issuer, hashes.SHA256())
    )
    names = [x509.DNSName(host) for host in hosts]
    address = x509.IPAddress(ipaddress.ip_address(_LOOPBACK))
    roles = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _begun("Nightshift object store", key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([*names, address]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(roles), critical=False)
        .sign(issuer, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / AUTHORITY, authority.public_bytes(Encoding.PEM))
    write_private(folder / CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    write_private(folder / KEY, private)


def _begun(name: str, key: ec.EllipticCurvePublicKey, now: datetime) -> x509.CertificateBuilder:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(_AUTHORITY_NAME))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + _VALID)
    )


def _configuration(folder: Path) -> str:
    """Return SeaweedFS's `security.toml`. `weed scaffold -config=security` prints all available settings."""

    def quoted(name: str) -> str:
        # TOML strings are escaped as in JSON.
        return json.dumps(str(folder / name), ensure_ascii=False)

    pair = [f"cert = {quoted(CERTIFICATE)}", f"key = {quoted(KEY)}"]
    authority = f"ca = {quoted(AUTHORITY)}"
    lines: list[str] = []
    for name in _SIGNED:
        lines += [f"[jwt.{name}]", f'key = "{secrets.token_hex(32)}"']
    lines += ["[grpc]", authority]
    for part in _GRPC_PARTS:
        lines += [f"[grpc.{part}]", *pair]
    for part in _HTTP_PARTS:
        lines += [f"[https.{part}]", *pair, authority]
    lines += ["enabled = true"]  # in the last section, the client's: it uses HTTPS
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    secure_store(Path(sys.argv[1]), datetime.now(UTC), sys.argv[2:])
