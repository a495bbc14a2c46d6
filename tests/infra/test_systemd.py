"""The units for one box without containers, by systemd's own reading; no systemd runs here."""

import re
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from pipelines.commands.cli import app
from serving.config import Settings as ServingSettings
from serving.processes.launch import _STOP_S
from tests.infra.observed import ROOT

FOLDER = ROOT / "infra" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
# By systemd's own scale from 0 to 10, in tenths: 20 and more it calls "medium" and worse.
EXPOSED = 20


def directives(name: str) -> dict[str, str]:
    lines = (FOLDER / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def analyze(*arguments) -> subprocess.CompletedProcess:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def verified(folder, name: str, text: str) -> str:
    """What `systemd-analyze verify` says of a unit whose program is one that is there."""
    (folder / name).write_text(text.replace("/opt/alphaloop/bin/alphaloop", "/bin/true"))
    done = analyze("verify", "--man=no", folder / name)
    return done.stdout + done.stderr


def test_there_is_one_for_the_service_and_one_for_the_watch():
    assert UNITS == ["alphaloop-serve.service", "alphaloop-watch.service"]


@pytest.mark.parametrize("name", UNITS)
class TestEachUnit:
    def test_systemd_reads_it(self, tmp_path, name):
        assert verified(tmp_path, name, (FOLDER / name).read_text()) == ""

    @pytest.mark.parametrize("fault", ["ProtectSytem=strict", "Restart=sometimes", "TimeoutStopSec=long"])
    def test_a_planted_fault_is_told(self, tmp_path, name, fault):
        text = (FOLDER / name).read_text().replace("[Install]", f"{fault}\n[Install]")
        assert f"{name}:" in verified(tmp_path, name, text)

    def test_it_is_exposed_little(self, tmp_path, name):
        shutil.copy(FOLDER / name, tmp_path)
        done = analyze("security", "--offline=true", f"--threshold={EXPOSED}", tmp_path / name)
        assert done.returncode == 0, done.stdout[-300:] + done.stderr

    def test_a_bare_one_would_be_exposed(self, tmp_path, name):
        kept = ("[", "Type", "User", "Exec", "Description")
        lines = [line for line in (FOLDER / name).read_text().splitlines() if line.startswith(kept)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        done = analyze("security", "--offline=true", f"--threshold={EXPOSED}", tmp_path / name)
        assert done.returncode != 0

    def test_its_command_is_one_of_ours(self, name):
        program, command, *options = directives(name)["ExecStart"].split()
        assert program == "/opt/alphaloop/bin/alphaloop"
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert told.exit_code == 0
        assert {option for option in options if option.startswith("--")} <= set(
            re.findall(r"--[a-z-]+", told.stdout)
        )

    def test_it_writes_to_its_own_folder_alone(self, name):
        found = directives(name)
        assert (found["ProtectSystem"], found["StateDirectory"]) == ("strict", "alphaloop")
        assert found["WorkingDirectory"] == "/var/lib/alphaloop"
        assert "ReadWritePaths" not in found

    def test_it_starts_again_and_has_time_to_end(self, name):
        found = directives(name)
        assert (found["Restart"], found["StartLimitIntervalSec"]) == ("always", "0")
        defaults = ServingSettings()
        needed = defaults.drain_seconds + defaults.request_timeout_ms / 1000 + 1 + sum(_STOP_S.values())
        assert float(found["TimeoutStopSec"]) > needed
        # The main process ends its children in order; systemd ends what is left.
        assert found["KillMode"] == "mixed"

    def test_no_secret_stands_in_it(self, name):
        text = (FOLDER / name).read_text()
        assert "EnvironmentFile=/etc/alphaloop/secrets.env" in text
        assert not re.search(r"^Environment=.*(KEY|PASSWORD|SECRET)", text, re.MULTILINE)
