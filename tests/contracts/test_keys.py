"""Keys are made once, kept private, and say who may connect."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from cirrus.errors import SetupError
from cirrus.keys import (
    Allowlist,
    coordinator_keys,
    coordinator_public,
    dispatcher_keys,
    enrol,
)


def new_public() -> bytes:
    return zmq.curve_keypair()[0]


# --- pairs --------------------------------------------------------------------------------------


def test_a_pair_is_made_on_first_use_and_kept(tmp_path):
    made = coordinator_keys(tmp_path / "data")
    assert zmq.curve_public(made.secret) == made.public
    assert coordinator_keys(tmp_path / "data") == made
    assert coordinator_public(tmp_path / "data") == made.public


def test_nobody_else_can_look_at_it(tmp_path):
    umask = os.umask(0)  # nothing may depend on it
    try:
        coordinator_keys(tmp_path)
        enrol(tmp_path, "d1", new_public())
    finally:
        os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").rglob("*")}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert modes == {
        "coordinator.key_secret": 0o600,
        "coordinator.public": 0o600,
        "dispatchers": 0o700,
        "d1.public": 0o600,
    }


def test_the_secret_is_not_shown(tmp_path):
    pair = dispatcher_keys(tmp_path)
    for shown in (repr(pair), str(pair), f"{pair}"):
        assert pair.secret.decode() not in shown
        assert pair.public.decode() in shown


def test_of_many_that_make_it_at_once_one_wins_for_all(tmp_path):
    for round_number in range(20):
        barrier = threading.Barrier(8)

        def make(folder: Path, barrier: threading.Barrier = barrier):
            barrier.wait()
            return coordinator_keys(folder)

        with ThreadPoolExecutor(8) as pool:
            folder = tmp_path / str(round_number)
            pairs = set(pool.map(make, [folder] * 8))
        assert len(pairs) == 1
        names = sorted(path.name for path in (folder / "keys").iterdir())
        assert names == ["coordinator.key_secret", "coordinator.public"]


def test_a_crash_between_secret_and_public_key_is_mended(tmp_path):
    made = coordinator_keys(tmp_path)
    public = tmp_path / "keys" / "coordinator.public"
    public.unlink()
    assert coordinator_keys(tmp_path) == made
    public.write_bytes(new_public())
    assert coordinator_keys(tmp_path) == made
    assert coordinator_public(tmp_path) == made.public


def test_without_a_coordinator_its_key_cannot_be_known(tmp_path):
    with pytest.raises(SetupError, match="no coordinator has run here yet"):
        coordinator_public(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602])
def test_a_secret_that_others_reach_is_refused(tmp_path, mode):
    dispatcher_keys(tmp_path)
    secret = tmp_path / "keys" / "dispatcher.key_secret"
    secret.chmod(mode)
    with pytest.raises(SetupError, match=f"{secret}: is open to others; run: chmod 600 {secret}"):
        dispatcher_keys(tmp_path)


def test_a_folder_that_others_reach_is_refused(tmp_path):
    dispatcher_keys(tmp_path)
    folder = tmp_path / "keys"
    folder.chmod(0o755)
    with pytest.raises(SetupError, match=f"{folder}: is open to others; run: chmod 700 {folder}"):
        dispatcher_keys(tmp_path)


def test_the_command_that_mends_it_can_be_pasted(tmp_path):
    folder = tmp_path / "it's here"
    dispatcher_keys(folder)
    secret = folder / "keys" / "dispatcher.key_secret"
    secret.chmod(0o644)
    with pytest.raises(SetupError) as caught:
        dispatcher_keys(folder)
    assert os.system(str(caught.value).partition("run: ")[2]) == 0
    dispatcher_keys(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("path", ["keys", "keys/dispatcher.key_secret"])
def test_what_belongs_to_another_user_is_refused(tmp_path, path):
    dispatcher_keys(tmp_path)
    os.chown(tmp_path / path, 12345, -1)
    with pytest.raises(SetupError, match=f"{tmp_path / path}: belongs to another user; run: chown"):
        dispatcher_keys(tmp_path)


def test_a_symbolic_link_is_refused(tmp_path):
    dispatcher_keys(tmp_path / "elsewhere")
    secret = tmp_path / "elsewhere" / "keys" / "dispatcher.key_secret"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "keys").symlink_to(secret.parent)
    (tmp_path / "b" / "keys").mkdir(parents=True, mode=0o700)
    (tmp_path / "b" / "keys" / secret.name).symlink_to(secret)
    for folder in ("a", "b"):
        with pytest.raises(SetupError, match="symbolic link"):
            dispatcher_keys(tmp_path / folder)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 39, b"~" * 40, b"#" * 40, b"x" * 200])
def test_a_file_that_holds_no_key_is_refused(tmp_path, content):
    dispatcher_keys(tmp_path)
    (tmp_path / "keys" / "dispatcher.key_secret").write_bytes(content)
    with pytest.raises(SetupError, match="holds no key"):
        dispatcher_keys(tmp_path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "dispatcher.key_secret", 0o600)
    with pytest.raises(SetupError, match="is no file"):
        dispatcher_keys(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SetupError, match=r"data/keys: cannot be used: Not a directory"):
        coordinator_keys(tmp_path / "data")


# --- who may connect ----------------------------------------------------------------------------


def test_who_is_enrolled_is_known_by_name(tmp_path):
    allowlist, first, second = Allowlist(tmp_path), new_public(), new_public()
    assert allowlist.name_of(first) is None
    enrol(tmp_path, "d1", first)
    enrol(tmp_path, "d2", second)
    assert (allowlist.name_of(first), allowlist.name_of(second)) == ("d1", "d2")


def test_a_new_key_of_a_name_replaces_the_old_one(tmp_path):
    allowlist, old, new = Allowlist(tmp_path), new_public(), new_public()
    enrol(tmp_path, "d1", old)
    enrol(tmp_path, "d1", new)
    assert (allowlist.name_of(old), allowlist.name_of(new)) == (None, "d1")


def test_who_is_removed_is_out(tmp_path):
    allowlist, public = Allowlist(tmp_path), new_public()
    enrol(tmp_path, "d1", public)
    assert allowlist.name_of(public, afresh=True) == "d1"
    (tmp_path / "keys" / "dispatchers" / "d1.public").unlink()
    assert allowlist.name_of(public, afresh=True) is None
    enrol(tmp_path, "d1", public)
    (tmp_path / "keys").rename(tmp_path / "away")
    assert allowlist.name_of(public) is None
    (tmp_path / "away").rename(tmp_path / "keys")
    assert allowlist.name_of(public) == "d1"


def test_a_key_written_by_hand_counts(tmp_path):
    allowlist, public = Allowlist(tmp_path), new_public()
    (tmp_path / "keys" / "dispatchers" / "by-hand.public").write_bytes(public + b"\n")
    assert allowlist.name_of(public, afresh=True) == "by-hand"


def test_a_file_whose_name_is_no_name_counts_for_nothing(tmp_path):
    allowlist, public = Allowlist(tmp_path), new_public()
    folder = tmp_path / "keys" / "dispatchers"
    for name in ("D1.public", "a b.public", "-d.public", ".public", "d1", "d1.public~"):
        (folder / name).write_bytes(public)
    (folder / "folder.public").mkdir()
    assert allowlist.name_of(public, afresh=True) is None


@pytest.mark.parametrize(
    "name", ["", "D1", "-d", "d_1", "d.1", "../d", "d/1", "d\n", "ä", "d" * 64]
)
def test_a_bad_name_is_refused(tmp_path, name):
    with pytest.raises(SetupError, match="cannot name a dispatcher"):
        enrol(tmp_path, name, new_public())


@pytest.mark.parametrize("public", [b"", b"x" * 39, b"~" * 40, b"#" * 40])
def test_a_bad_key_is_refused(tmp_path, public):
    with pytest.raises(SetupError, match="is no public key"):
        enrol(tmp_path, "d1", public)
