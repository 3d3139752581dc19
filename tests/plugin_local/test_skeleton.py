"""The /etc of local sandboxes, made by a caller with a strict umask."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("openrt_local")
from openrt_local import skeleton


@pytest.fixture
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_everybody_can_read_every_folder(tmp_path, monkeypatch, strict_umask):
    etc = tmp_path / "host"
    (etc / "pki/tls/certs").mkdir(parents=True)
    (etc / "pki/tls/certs").chmod(0o755)
    (etc / "ssl").mkdir()
    (etc / "ssl/openssl.cnf").write_text("x")
    monkeypatch.setattr(skeleton, "ETC", etc)
    made = skeleton.prepared(tmp_path / "state")
    folders = [made, *(path for path in made.rglob("*") if path.is_dir())]
    assert {str(f.relative_to(made)) for f in folders} >= {".", "pki/tls", "ssl"}
    assert {f.stat().st_mode & 0o777 for f in folders} == {0o755}
    assert (made / "ssl/openssl.cnf").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users in its sandboxes")
def test_another_user_of_the_sandbox_reads_them(runtime, tmp_path, monkeypatch, strict_umask):
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with runtime.create() as sandbox:
        result = sandbox.exec("grep -c ^root: /etc/passwd", user=1234, cwd="/")
    assert (result.stdout, result.stderr) == (b"1\n", b"")
