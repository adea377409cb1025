"""docs/http.md: the documents that it begins with are sound as they stand, and do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxyd.cli.main import main
from tests.pki import SERVER, Authority
from tests.proxyd.documents import write_secret

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    config, policy = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "policy.yaml").write_text(policy)
    path = tmp_path / "proxyd.yaml"
    path.write_text(config.replace("/var/lib/proxyd/tapes", "tapes"))
    (tmp_path / "pki").mkdir()
    (tmp_path / "secrets").mkdir()
    Authority.root("CA").issue("web", dns=["gateway.example"], purpose=SERVER).write(tmp_path / "pki", "web")
    write_secret(tmp_path / "secrets" / "orders", "key")
    return path


def test_the_least_that_is_needed_is_sound(configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(configuration), "--documents-only", "--strict"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert ": sound; policy " in said.out


@pytest.mark.parametrize(("method", "decision"), [("GET", "allow"), ("DELETE", "deny")])
def test_it_allows_reading_alone(
    configuration: Path, capsys: pytest.CaptureFixture[str], method: str, decision: str
) -> None:
    asked = ["--subject", "ann", "--group", "staff", "--target", "api", "--path", "/v1/customers/7"]
    assert main(["explain", "--config", str(configuration), *asked, "--method", method]) == 0
    said = capsys.readouterr()
    assert said.out.endswith(f"=> {decision}\n"), said.err
    assert "mail (on response)" in said.out
