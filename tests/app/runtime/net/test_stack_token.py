"""The token in the run's folder: made once, for its owner only, and never sent elsewhere."""

import os
import stat
import threading
from pathlib import Path

import pytest

from app.config.settings import Settings, SettingsError
from app.runtime.lifecycle import FatalError
from app.runtime.net.access import token_to_send
from app.runtime.net.stack_token import keep_stack_token, read_stack_token, stack_token_path


def test_it_is_made_once_and_its_owner_alone_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "out" / "orders-1.token"
    umask = os.umask(0)
    try:
        token, made = keep_stack_token(path)
    finally:
        os.umask(umask)
    assert made
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keep_stack_token(path) == (token, False)
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no draft is left"


def test_what_somebody_else_may_have_written_is_replaced(tmp_path: Path) -> None:
    planted = "0" * 64
    for number, prepare in enumerate(("readable", "writable", "link", "short")):
        path = tmp_path / f"orders-{number}.token"
        target = tmp_path / "elsewhere"
        target.write_text(planted + "\n")
        target.chmod(0o600)
        if prepare == "link":
            path.symlink_to(target)
        else:
            path.write_text(planted + "\n" if prepare != "short" else "0\n")
            path.chmod({"readable": 0o640, "writable": 0o620, "short": 0o600}[prepare])
        token, made = keep_stack_token(path)
        assert made, prepare
        assert token != planted.encode()
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert target.read_text() == planted + "\n"


def test_another_users_file_is_replaced(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    path = tmp_path / "orders-1.token"
    path.write_text("0" * 64 + "\n")
    path.chmod(0o600)
    os.chown(path, 10001, 10001)
    token, made = keep_stack_token(path)
    assert (made, token == b"0" * 64) == (True, False)
    assert path.stat().st_uid == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "orders-1.token"
    with pytest.raises(FatalError, match=r"orders-1\.token: .*make the folder \(RUN_DIR"):
        keep_stack_token(path)


def test_readers_never_see_half_of_it(tmp_path: Path) -> None:
    settings = Settings(output_dir=str(tmp_path), order_port=1)
    path = stack_token_path(settings)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(read_stack_token(settings))

    reader = threading.Thread(target=read)
    reader.start()
    made = {b""}
    for _ in range(50):
        made.add(keep_stack_token(path)[0])
        path.unlink()
    done.set()
    reader.join()
    assert seen <= made


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"order_manager_host": "localhost"}, True),
        ({"order_manager_host": "orders.example"}, False),
        ({"order_port": 2}, False),
    ],
)
def test_only_the_order_manager_of_this_stack_gets_it(
    tmp_path: Path, changes: dict[str, object], found: bool
) -> None:
    base = {"output_dir": str(tmp_path), "order_port": 1}
    token, _ = keep_stack_token(stack_token_path(Settings(**base)))  # type: ignore[arg-type]
    settings = Settings(**{**base, **changes})  # type: ignore[arg-type]
    assert token_to_send(settings) == (token if found else b"")


def test_in_containers_it_is_in_the_volume_and_the_host_has_a_name(tmp_path: Path) -> None:
    settings = Settings(run_dir=str(tmp_path), order_manager_host="order_manager", order_port=1)
    token, _ = keep_stack_token(stack_token_path(settings))
    assert read_stack_token(settings) == token


def test_a_token_for_the_stack_in_the_file_comes_first_and_others_after(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    settings = Settings(output_dir=str(tmp_path), order_port=1, order_token_file=str(file))
    own, _ = keep_stack_token(stack_token_path(settings))
    bare, desk = "b" * 32, "d" * 32
    file.write_text(bare)
    assert token_to_send(settings) == bare.encode()
    file.write_text(f"{desk} client=desk")
    assert token_to_send(settings) == own
    file.write_text("half a li")
    assert token_to_send(settings) == own, "a wrong file ends nobody who needs none"
    stack_token_path(settings).unlink()
    with pytest.raises(SettingsError, match="a token of"):
        token_to_send(settings)
    file.write_text(f"{desk} client=desk")
    assert token_to_send(settings) == desk.encode()
