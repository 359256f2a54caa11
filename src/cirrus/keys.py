"""CURVE keys as files: made on first use, readable by their owner alone. Who may connect, too."""

import errno
import os
import re
import shlex
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import zmq
from msgspec import Struct
from zmq.utils import z85

from cirrus.errors import SetupError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
"""A dispatcher's name: it is a file's name, and part of labels."""

Z85_KEY_BYTES = 40


class KeyPair(Struct, frozen=True):
    """Both halves as Z85 text: 40 bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:  # what is logged must not hold the secret
        return f"KeyPair(public={self.public!r})"


def coordinator_keys(data_dir: Path) -> KeyPair:
    return _pair(data_dir / "keys", "coordinator")


def coordinator_public(data_dir: Path) -> bytes:
    """The key by which a dispatcher on this machine knows its coordinator."""
    path = data_dir / "keys" / "coordinator.public"
    try:
        return path.read_bytes().strip()
    except FileNotFoundError as error:
        raise SetupError(data_dir, "no coordinator has run here yet; start it first") from error
    except OSError as error:
        raise SetupError(path, f"cannot be read: {error.strerror}") from error


def dispatcher_keys(state_dir: Path) -> KeyPair:
    return _pair(state_dir / "keys", "dispatcher")


def enrol(data_dir: Path, name: str, public: bytes) -> None:
    """Let the dispatcher with this key in, as `name`; an earlier key of that name is replaced."""
    if not NAME.fullmatch(name):
        rule = "1 to 63 of a-z, 0-9 and -, beginning with a letter or digit"
        raise SetupError(repr(name), f"cannot name a dispatcher: {rule}")
    if not _is_key(public):
        raise SetupError(repr(public), "is no public key: 40 characters of Z85")
    _write(_allowlist_folder(data_dir) / f"{name}.public", public)


class Allowlist:
    """Who is enrolled, as the folder says now. A dispatcher whose file is removed is out."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = _allowlist_folder(data_dir)
        self._names: dict[bytes, str] = {}
        self._changed = -1

    def name_of(self, public: bytes, *, afresh: bool = False) -> str | None:
        """Cheap: files are read only after one came or went, or when asked to look `afresh`."""
        try:
            # The time is taken before reading: what changes meanwhile is read again next time.
            changed = self._folder.stat().st_mtime_ns
            if afresh or changed != self._changed:
                self._names = dict(self._read())
                self._changed = changed
        except OSError:  # the folder is away, and everybody's permission with it
            self._names, self._changed = {}, -1
        return self._names.get(public)

    def _read(self) -> Iterator[tuple[bytes, str]]:
        for path in sorted(self._folder.glob("*.public")):
            if NAME.fullmatch(path.stem):
                with suppress(OSError):  # removed since it was listed, or unreadable: not enrolled
                    yield path.read_bytes().strip(), path.stem


def _allowlist_folder(data_dir: Path) -> Path:
    return _private_folder(_private_folder(data_dir / "keys") / "dispatchers")


def _pair(folder: Path, name: str) -> KeyPair:
    """Read the pair, or make it. Of several processes that do so at once, one wins for all."""
    secret_path = _private_folder(folder) / f"{name}.key_secret"
    secret = _read_secret(secret_path)
    if secret is None:
        _write(secret_path, zmq.curve_keypair()[1], replace=False)
        secret = _read_secret(secret_path)
    if secret is None or not _is_key(secret):
        raise SetupError(secret_path, "holds no key; move it away, and a new one will be made")
    public = zmq.curve_public(secret)
    public_path = folder / f"{name}.public"
    # The secret alone decides: a crash may have come between the two files.
    if not public_path.exists() or public_path.read_bytes() != public:
        _write(public_path, public)
    return KeyPair(public, secret)


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == Z85_KEY_BYTES and bool(z85.decode(text))
    except (KeyError, struct.error):  # what z85 raises for other characters, and beyond 32 bits
        return False


def _private_folder(folder: Path) -> Path:
    """Make the folder if need be. SetupError when anybody else could look into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise SetupError(folder, f"cannot be used: {error.strerror}") from error
    _refuse_what_others_can_reach(folder, facts, "700")
    return folder


def _read_secret(path: Path) -> bytes | None:
    try:
        # Without O_NONBLOCK, a FIFO in its place would hold us up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SetupError(path, "is a symbolic link; put the file itself there") from error
        raise SetupError(path, f"cannot be read: {error.strerror}") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise SetupError(path, "is no file; move it away, and a new key will be made")
        _refuse_what_others_can_reach(path, facts, "600")
        return os.read(descriptor, 100).strip()
    finally:
        os.close(descriptor)


def _refuse_what_others_can_reach(path: Path, facts: os.stat_result, mode: str) -> None:
    quoted = shlex.quote(str(path))
    if stat.S_ISLNK(facts.st_mode):
        raise SetupError(path, "is a symbolic link; put the folder itself there")
    if facts.st_uid != os.geteuid():
        raise SetupError(path, f"belongs to another user; run: chown {os.geteuid()} {quoted}")
    if stat.S_IMODE(facts.st_mode) & 0o077:
        raise SetupError(path, f"is open to others; run: chmod {mode} {quoted}")


def _write(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write it whole and synced, or not at all. Without `replace`, an existing file stays."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")  # its mode is 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            if replace:
                Path(temporary).replace(path)
            else:
                with suppress(FileExistsError):
                    os.link(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise SetupError(path, f"cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
