"""Keys, and signatures over a bundle's folder by OpenSSF model signing: with a key, a certificate, or by an identity.

The signature covers every file of the folder but itself, hidden ones included. A signature by an identity (keyless) is
made by model-signing's own command, which asks for one in the browser; here it is verified.

Source: model-signing 1.1.1. It needs pyOpenSSL and does not name it; the extra `evidence` brings both.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from expunge import files, untrusted
from expunge.errors import StorageError, UserError, install
from expunge.extras import EXTRAS
from expunge.locks import alone

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SIGNATURE = "model.sig"
"""The signature's file, in the folder that it is over."""
PASSWORD = "EXPUNGE_KEY_PASSWORD"
"""The environment variable with the password of a private key that has one."""
PRIVATE, PUBLIC = "expunge.key", "expunge.pub"


def check_installed() -> None:
    """UserError where the extra `evidence` is not there."""
    missing = EXTRAS["evidence"].missing
    if missing:
        raise UserError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
                        accepted="the extra evidence", remedy=install("evidence"))


@dataclass(frozen=True)
class Signer:
    """Who signs.

    Attributes:
        key: a private key (PEM; P-256, P-384 or P-521). certificate: of that key. chain: certificates above it.
    """

    key: Path
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Places may be given as text, too."""
        _as_paths(self, "key", "certificate")


@dataclass(frozen=True)
class Trust:
    """Whose signature is asked for. Attributes: key, a public key; chain: certificates that are trusted; identity with
    issuer: who signed without a key. Nothing of it: nobody's in particular."""

    key: Path | None = None
    chain: tuple[Path, ...] = ()
    identity: str = ""
    issuer: str = ""

    def __post_init__(self) -> None:
        """Places may be given as text, too.

        Raises:
            UserError: half an identity, or several ways of trusting at once, of which one would be passed over.
        """
        _as_paths(self, "key")
        if bool(self.identity) != bool(self.issuer):
            raise UserError(f"trust in the {'identity' if self.identity else 'issuer'} alone",
                            accepted="an identity together with its issuer")
        ways = [name for name in ("key", "chain", "identity") if getattr(self, name)]
        if len(ways) > 1:
            raise UserError(f"trust by {' and '.join(ways)}", accepted="one of key, chain, identity with issuer")

    @property
    def asked(self) -> bool:
        """Whether anybody's signature is asked for."""
        return bool(self.key or self.chain or self.identity)


def _as_paths(one: Signer | Trust, *names: str) -> None:
    """Make paths of the fields of these names, and of the chain, which may be a single one."""
    for name in names:
        place = getattr(one, name)
        object.__setattr__(one, name, None if place is None else Path(place))
    chain = (one.chain,) if isinstance(one.chain, str | Path) else one.chain
    object.__setattr__(one, "chain", tuple(map(Path, chain)))


@dataclass(frozen=True)
class Signed:
    """A signature that holds.

    Attributes:
        by: whose it is, in words. files: sha256 of what it covers, by name.
        key: the public key that made it; None of a signature by an identity.
    """

    by: str
    files: Mapping[str, str]
    key: EllipticCurvePublicKey | None


def make_keys(folder: Path) -> tuple[Path, Path]:
    """A new pair of keys in `folder`: the private one, which only its owner may read, and the public one.

    The private key comes last, so a public key alone is what a kill left: it is of no use, and is replaced.

    Raises:
        UserError: there is a private key already, or another run is writing there.
        StorageError: they cannot be written.
    """
    check_installed()
    with alone(folder):  # two at once would leave one's private key beside the other's public one
        return _new_pair(folder)


def _new_pair(folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = folder / PRIVATE, folder / PUBLIC
    if os.path.lexists(private):  # before anything is written: else its public key would be lost
        raise _key_there(private)
    made = ec.generate_private_key(ec.SECP256R1())
    secret = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    files.write_text(public, _pem(made.public_key()).decode("ascii"))
    try:
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise _key_there(private) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
    except OSError as error:
        private.unlink(missing_ok=True)  # a piece of a key would be taken for one
        raise _cannot_write(folder, error) from error
    return private, public


def _key_there(private: Path) -> UserError:
    return UserError(f"{private} exists already", accepted="a folder without a private key",
                     remedy="a key that is overwritten signs nothing any more: choose another folder")


def _cannot_write(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write into {folder}: {error.strerror or error}", remedy="choose another folder")


def private_key(file: Path) -> EllipticCurvePrivateKey:
    """The private key in a PEM file; its password, if it has one, is in the environment (`PASSWORD`).

    Raises:
        UserError: none there, or one of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(untrusted.content(file), _password())
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a private key: {error}", accepted="a PEM file of an EC key",
                        remedy=f"`expunge keys` makes one; the password of an encrypted one is read from ${PASSWORD}"
                        ) from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise UserError(f"{file} holds a key of another kind", accepted=f"an EC key on {', '.join(_CURVES)}",
                        remedy="`expunge keys` makes one")
    return key


def public_key(file: Path) -> EllipticCurvePublicKey:
    """The public key in a PEM file. UserError: none there, or one of another kind."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(untrusted.content(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a public key: {error}", accepted="a PEM file of an EC key",
                        remedy="ask the publisher for it, by another way than the bundle's") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise UserError(f"{file} holds a key of another kind", accepted=f"an EC key on {', '.join(_CURVES)}")
    return key


def check_readable(trust: Trust) -> None:
    """UserError: a key or a certificate that is named cannot be read: that tells nothing of a bundle."""
    from cryptography.x509 import load_pem_x509_certificates

    if trust.key is not None:
        public_key(trust.key)
    for file in trust.chain:
        try:
            load_pem_x509_certificates(untrusted.content(file))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read as certificates: {error}", accepted="a PEM file of certificates"
                            ) from error


def fingerprint(key: EllipticCurvePublicKey) -> str:
    """sha256 (first 16 hex digits) of a public key in PEM, as model-signing names it."""
    return sha256(_pem(key)).hexdigest()[:16]


def sign(folder: Path, signer: Signer) -> Path:
    """Sign all files of `folder`; returns the signature's file in it.

    Raises:
        UserError: the key or the certificate cannot be used.
    """
    from model_signing import signing

    config = signing.Config().set_hashing_config(_hashing())
    private_key(signer.key)  # so that mistakes are told in our words
    try:
        if signer.certificate is not None:
            config.use_certificate_signer(private_key=signer.key, signing_certificate=signer.certificate,
                                          # an empty chain is refused; the certificate again changes nothing
                                          certificate_chain=signer.chain or (signer.certificate,))
        else:
            config.use_elliptic_key_signer(private_key=signer.key, password=_password())  # bytes, whatever it says
        config.sign(folder, folder / SIGNATURE)
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"cannot sign with {signer.key}: {error}", accepted="a key, and a certificate of that key"
                        ) from error
    return folder / SIGNATURE


def verified(folder: Path, trust: Trust) -> Signed:
    """The signature of `folder`, by whom it is asked for.

    What it covers is compared with the folder by the caller: here the signature itself is verified.

    Raises:
        UserError: it does not hold, or is by somebody else.
    """
    from model_signing import verifying

    config = verifying.Config().set_hashing_config(_hashing())
    key = public_key(trust.key) if trust.key is not None else None
    try:
        if trust.key is not None:
            config.use_elliptic_key_verifier(public_key=trust.key)
        elif trust.chain:
            config.use_certificate_verifier(certificate_chain=trust.chain)
        else:
            config.use_sigstore_verifier(identity=trust.identity, oidc_issuer=trust.issuer)
        config.verify(folder, folder / SIGNATURE)
    except Exception as error:  # the library's own kinds are many: whatever it raises, the signature does not hold
        if not str(error).startswith("Signature mismatch:"):
            raise UserError(_told(error),
                            accepted="the signature of this folder, by whom it is asked for") from error
    try:
        content = untrusted.json_of(folder / SIGNATURE)
        stated = untrusted.json_in(base64.b64decode(content["dsseEnvelope"]["payload"]))
        covered = {str(one["name"]): str(one["digest"]) for one in stated["predicate"]["resources"]
                   if one["algorithm"] == "sha256"}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError("the signature's file is damaged", accepted="one that the library wrote") from error
    if trust.chain and key is None:
        key = _certified(content)
    by = f"the key {fingerprint(key)}" if key is not None else trust.identity
    return Signed(f"{by}, certified" if trust.chain and trust.key is None else by, covered, key)


_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def _certified(content: Mapping[str, Any]) -> EllipticCurvePublicKey | None:
    """The key of the certificate in a signature, whose chain the library has verified."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    chain: Sequence[Mapping[str, str]] = content["verificationMaterial"]["x509CertificateChain"]["certificates"]
    key = x509.load_der_x509_certificate(base64.b64decode(chain[0]["rawBytes"])).public_key()
    return key if isinstance(key, EllipticCurvePublicKey) else None


def _hashing() -> Any:
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _password() -> bytes | None:
    return os.environ[PASSWORD].encode() if os.environ.get(PASSWORD) else None


def _pem(key: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _told(error: Exception) -> str:
    """Why a signature does not hold, for a person."""
    if isinstance(error, KeyError | TypeError | IndexError | AttributeError | ValidationError | json.JSONDecodeError):
        return f"{SIGNATURE} is damaged"
    text = " ".join(str(error).split())
    return f"{SIGNATURE} does not hold: {type(error).__name__}: {text or 'it was made by another key, or is damaged'}"
