"""Keys of a cluster: whoever has them may run code on its workers, nobody else may.

One self-signed certificate is everybody's: scheduler, workers and clients are all the pipeline.
"""

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed.security import Security
from filelock import FileLock

from dsa110_contimg.durable import replacing
from dsa110_contimg.errors import UsageError

_CERTIFICATE, _KEY = "cert.pem", "key.pem"
_YEARS = 10
DASK: dict[str, object] = {
    "distributed": {
        "scheduler": {
            # The executor itself gives calls again, to a worker that it chooses.
            "allowed-failures": 0,
            "work-stealing": False,
            # Workers only wait for processes of their own: one that is silent is frozen or gone.
            "worker-ttl": "60s",
            "http": {"routes": []},
        },
        "worker": {"http": {"routes": []}},
    }
}
"""Dask's defaults where this program's are others, for schedulers and workers."""


def make_keys(directory: Path) -> None:
    """Make certificate and key, readable by the owner only, unless they are there."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    with FileLock(directory / ".lock"):
        if (directory / _KEY).exists():
            return
        _make(directory)


def _make(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dsa110-contimg")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .sign(key, hashes.SHA256())
    )
    _write(directory / _CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))
    # The key comes last: where it is, everything is.
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(directory / _KEY, pem)


def security(directory: Path) -> Security:
    """Security settings for Dask.

    Raises
    ------
    UsageError
        If there are no keys.
    """
    certificate, key = directory / _CERTIFICATE, directory / _KEY
    if not certificate.exists() or not key.exists():
        raise UsageError(
            f"{directory}: has no {_CERTIFICATE} and {_KEY}; 'dsa110-contimg scheduler' makes "
            "them where it runs, copy them or share the root"
        )
    return Security(
        require_encryption=True,
        tls_ca_file=str(certificate),
        **{
            f"tls_{role}_{kind}": str(path)
            for role in ("scheduler", "worker", "client")
            for kind, path in (("cert", certificate), ("key", key))
        },
    )


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:
            file.write(content)
