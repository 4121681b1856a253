"""The model as a file: an artefact in an archive, signed by the service that wrote it. No pickles, no compression.

Whoever reads it builds the policy with this project's code, so a file can be refused but it cannot run code; the
signature says that this service has written it.
"""

import hmac
import io
import secrets
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from data.log.current.settings_table import SettingsTable, writing
from data.log.store import Store
from rl.artefacts.artefact import ARRAYS, DESCRIPTION, Artefact, load_served, save
from rl.artefacts.errors import ArtefactError
from rl.policies import build
from rl.policy.errors import PolicyError
from serve.api.personalizer.configuration.values import SIGNING
from serve.api.personalizer.errors import ERRORS

_SIGNATURE = "signature"
_WRITTEN = (1980, 1, 1, 0, 0, 0)  # equal models are equal files


def signing_key(store: Store) -> bytes:
    """Return the key that this service signs models with; made when it is first asked for.

    Raises:
        StoreError: it cannot be read or kept.
    """
    with writing(store) as settings:
        if not (found := _key(settings)):
            settings.append(SIGNING, secrets.token_hex(32), store.now())
            found = _key(settings)
    return bytes.fromhex(found)


def capture(served: Artefact, now: datetime) -> Callable[[], Artefact]:
    """Take a model as it is now; what is returned builds an artefact of its own, which may take longer."""
    state = served.policy.state_dict()

    def build_it() -> Artefact:
        encoder = served.encoder
        policy = build(served.config, encoder.n_features, encoder.n_states, encoder.popularity)
        policy.load_state_dict(state)
        return replace(served, policy=policy, learned_until=now, digest="")

    return build_it


def pack(artefact: Artefact, key: bytes | None) -> bytes:
    """Return a model as a file, signed if there is a key."""
    with TemporaryDirectory() as folder:
        save(artefact, Path(folder) / "model")
        parts = {name: (Path(folder) / "model" / name).read_bytes() for name in (DESCRIPTION, ARRAYS)}
    if key is not None:
        parts[_SIGNATURE] = _sign(parts, key).encode()
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _WRITTEN), content)
    return blob.getvalue()


def unpack(blob: bytes, key: bytes) -> Artefact:
    """Return the model that a file holds.

    Raises:
        Refused: it is no such file, or was not signed with this key.
    """
    parts = _read(blob)
    signature = parts.pop(_SIGNATURE, b"")
    if parts.keys() != {DESCRIPTION, ARRAYS}:
        raise ERRORS.refuse("InvalidModelImportFormat")
    if not hmac.compare_digest(signature, _sign(parts, key).encode()):
        raise ERRORS.refuse("InvalidModelImportSignature")
    with TemporaryDirectory() as folder:
        for name, content in parts.items():
            (Path(folder) / name).write_bytes(content)
        try:
            return replace(load_served(Path(folder)), digest="")
        except (ArtefactError, PolicyError) as error:
            raise ERRORS.refuse("InvalidModelImportFormat") from error


def _read(blob: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            members = archive.infolist()
            # Not compressed, so that what is read is no larger than what was sent.
            if len(members) > 3 or any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1 for m in members):
                raise ERRORS.refuse("InvalidModelImportFormat")
            return {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise ERRORS.refuse("InvalidModelImportFormat") from error


def _sign(parts: dict[str, bytes], key: bytes) -> str:
    signature = hmac.new(key, digestmod="sha256")
    for name in (DESCRIPTION, ARRAYS):
        signature.update(len(parts[name]).to_bytes(8))
        signature.update(parts[name])
    return signature.hexdigest()


def _key(settings: SettingsTable) -> str:
    found = settings.history((SIGNING,))
    return str(found[0].value) if found else ""
