"""The commands as people and CI call them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxyd.cli.main import main
from tests.proxyd.documents import CONFIG, POLICY, write_http_setup, write_setup, write_ssh_setup

Output = pytest.CaptureFixture[str]


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_setup(tmp_path)


# The top


def test_help_names_every_command(capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for word in (
        "run",
        "check",
        "explain",
        "sessions",
        "tape",
        "version",
        "SIGHUP",
        "/etc/proxyd/proxyd.yaml",
    ):
        assert word in shown


@pytest.mark.parametrize("command", ["run", "check", "explain", "sessions", "tape", "version"])
def test_every_command_has_help(command: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        run(command, "--help")
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 50


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from proxyd.cli.main import _parser; _parser().format_help(); "
        "print([name for name in ('trio', 'pydantic', 'OpenSSL', 'pglast', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_command_lines_are_status_2(capsys: Output) -> None:
    for arguments in ([], ["dance"], ["check", "--nonsense"], ["explain", "--subject", "ann"]):
        with pytest.raises(SystemExit) as ended:
            run(*arguments)
        assert ended.value.code == 2
    assert "usage: proxyd" in capsys.readouterr().err


def test_version(capsys: Output) -> None:
    assert run("version") == 0
    with pytest.raises(SystemExit):
        run("--version")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[1]
    assert lines[0].startswith("proxyd ")


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxyd", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("proxyd ")


def test_a_reader_that_goes_away_is_no_traceback(config: Path) -> None:
    command = f"{sys.executable} -m proxyd explain -c {config} --subject a --target shop --no-catalog 'select 1' | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


# check


def test_check_sound(config: Path, capsys: Output) -> None:
    assert run("check", "--config", config) == 0
    shown = capsys.readouterr()
    assert f"{config}: sound; policy {config.parent}/policy.yaml, version " in shown.out
    assert shown.err == ""


def test_check_looks_at_what_http_needs(tmp_path: Path, capsys: Output) -> None:
    config = write_http_setup(tmp_path)
    assert run("check", "--strict", "--config", config) == 0
    capsys.readouterr()
    (tmp_path / "pki/inspect.key").chmod(0o644)
    assert run("check", "--config", config) == 1
    assert "listeners[1].proxy.certificate_authority.key.file" in capsys.readouterr().err
    assert run("check", "--documents-only", "--config", config) == 0


def test_check_prints_every_fault_for_ci(config: Path, capsys: Output) -> None:
    config.write_text(CONFIG.replace("drain_timeout", "drain_timout").replace("mode: disable", "mode: off"))
    assert run("check", "--config", config) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[-1] == "2 faults"
    assert all(line.startswith(f"{config}:") and "; " in line for line in lines[:-1])


def test_check_policy_faults(config: Path, capsys: Output) -> None:
    (config.parent / "policy.yaml").write_text(POLICY.replace("effect: allow", "effect: maybe"))
    assert run("check", "--config", config) == 1
    assert f"{config.parent}/policy.yaml:11:5: " in capsys.readouterr().err


def test_check_another_policy(config: Path, tmp_path: Path, capsys: Output) -> None:
    other = tmp_path / "tomorrow.yaml"
    other.write_text(POLICY.replace("method", "methd"))
    assert run("check", "--config", config, "--policy", other) == 1
    assert f"{other}:17:5: " in capsys.readouterr().err
    other.write_text(POLICY + "# tomorrow\n")
    assert run("check", "--config", config, "--policy", other) == 0
    assert str(other) in capsys.readouterr().out


def test_check_documents_only(config: Path, capsys: Output) -> None:
    """CI has neither the certificates nor the secrets of the machine."""
    for name in ("pki/server.key", "secrets/reader", "secrets/pseudonym"):
        (config.parent / name).unlink()
    assert run("check", "--config", config) == 1
    assert run("check", "--config", config, "--documents-only") == 0
    (config.parent / "policy.yaml").write_text(POLICY.replace("key: customers", "key: orders"))
    capsys.readouterr()
    assert run("check", "--config", config, "--documents-only") == 1
    assert "needs a key" in capsys.readouterr().err
    config.write_text(CONFIG + "surprise: 1\n")
    assert run("check", "--config", config, "--documents-only") == 1


def test_check_warnings_fail_only_when_strict(config: Path, capsys: Output) -> None:
    (config.parent / "policy.yaml").write_text(POLICY.replace("[readonly]", "[readonly, other]"))
    assert run("check", "--config", config) == 0
    assert "warning: " in capsys.readouterr().err
    assert run("check", "--config", config, "--strict") == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "1 warning"
    assert shown.out == ""


def test_check_without_a_file(tmp_path: Path, capsys: Output) -> None:
    assert run("check", "--config", tmp_path / "none.yaml") == 1
    assert "cannot be read" in capsys.readouterr().err


def test_check_never_shows_a_secret(config: Path, capsys: Output) -> None:
    config.write_text(CONFIG.replace("{file: secrets/reader}", "hunter2", 1))
    assert run("check", "--config", config) == 1
    assert "hunter2" not in capsys.readouterr().err


# run


def test_run_with_a_faulty_config_ends_with_78(config: Path, capsys: Output) -> None:
    config.write_text(CONFIG + "surprise: 1\n")
    assert run("run", "--config", config) == 78
    shown = capsys.readouterr().err
    assert f"{config}:31:1: surprise: unknown key" in shown
    assert f"proxyd check --config {config}" in shown


# explain


def explain(config: Path, *arguments: str) -> int:
    return run("explain", "--config", config, "--target", "shop", *arguments, "--no-catalog")


def test_explain_without_a_catalog_says_what_is_unknown(config: Path, capsys: Output) -> None:
    sql = "select id, ssn from shop.customers"
    assert explain(config, "--subject", "ann", "--group", "data", sql) == 0
    shown = capsys.readouterr().out
    assert "subject    ann  (groups: data; roles: analyst)" in shown
    assert "target     shop/shop as readonly" in shown
    assert "admission  allow" in shown
    assert "masks      identity-numbers" in shown
    assert "unknown    relations, columns, views" in shown
    assert "by rules allow" in shown
    assert "read-the-shop" in shown
    assert shown.splitlines()[-1] == "=> not known without the catalog"


def test_explain_a_stranger(config: Path, capsys: Output) -> None:
    assert explain(config, "--subject", "eve", "select 1") == 0
    shown = capsys.readouterr().out
    assert "roles: none" in shown
    assert "admission  deny" in shown
    assert shown.splitlines()[-1] == "=> deny"


def test_explain_what_needs_no_catalog(config: Path, capsys: Output) -> None:
    assert explain(config, "--subject", "ann", "--group", "data", "select 1; select 2") == 0
    shown = capsys.readouterr().out
    assert "statement 2: select 2" in shown
    assert shown.splitlines()[-1] == "=> allow"


def test_explain_a_text_that_does_not_parse(config: Path, capsys: Output) -> None:
    assert explain(config, "--subject", "ann", "--group", "data", "selekt 1") == 0
    shown = capsys.readouterr().out
    assert "refused    42601: " in shown
    assert shown.splitlines()[-1] == "=> deny"


def test_explain_by_another_policy_and_claims(config: Path, tmp_path: Path, capsys: Output) -> None:
    other = tmp_path / "tomorrow.yaml"
    other.write_text(POLICY.replace("{groups: [data]}", "{claims: {kind: agent}}"))
    arguments = ("--policy", str(other), "--subject", "bot", "select 1")
    assert explain(config, "--claim", "kind=agent", "--claim", "kind=other", *arguments) == 0
    assert "roles: analyst" in capsys.readouterr().out


def test_explain_json(config: Path, capsys: Output) -> None:
    assert explain(config, "--subject", "ann", "--group", "data", "--json", "delete from shop.orders") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["effect"] == "deny"
    assert answer["roles"] == ["analyst"]
    assert answer["statements"][0]["facts"]["command"] == "delete"
    assert answer["statements"][0]["by_rules"]["effect"] == "deny"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "stop"), "no target 'stop'; configured: shop"),
        (("--login", "root"), "--login: name one of readonly, catalog"),
        (("--target", "shop/other"), "'other' is not one of the target's databases"),
    ],
)
def test_explain_of_what_is_not_there(
    config: Path, arguments: tuple[str, ...], words: str, capsys: Output
) -> None:
    assert explain(config, "--subject", "ann", *arguments, "select 1") == 1
    assert words in capsys.readouterr().err


def test_explain_of_a_target_without_sql(tmp_path: Path, capsys: Output) -> None:
    path = write_ssh_setup(tmp_path)
    assert run("explain", "--config", path, "--target", "web1", "--subject", "ann", "select 1") == 1
    assert "the target 'web1' speaks ssh, and no SQL" in capsys.readouterr().err


def test_check_of_ssh_settings(tmp_path: Path, capsys: Output) -> None:
    path = write_ssh_setup(tmp_path)
    assert run("check", "--config", path, "--strict") == 0
    (tmp_path / "ssh/host").chmod(0o644)
    assert run("check", "--config", path) == 1
    assert f"{path}:11:17: listeners[1].host_keys[0]: " in capsys.readouterr().err
    assert run("check", "--config", path, "--documents-only") == 0


def test_explain_refuses_a_claim_without_value(config: Path, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        explain(config, "--subject", "ann", "--claim", "kind", "select 1")
    assert ended.value.code == 2


def test_explain_when_the_target_is_down(config: Path, capsys: Output) -> None:
    config.write_text(CONFIG.replace("127.0.0.1:5432", "127.0.0.1:1"))
    arguments = ("--subject", "ann", "--group", "data", "--target", "shop", "select 1")
    assert run("explain", "--config", config, *arguments) == 0
    shown = capsys.readouterr().out
    assert "no catalog (" in shown
    assert "refused" in shown


def test_explain_with_the_real_catalog(config: Path, pg18_shop: int, capsys: Output) -> None:
    text = CONFIG.replace("127.0.0.1:5432", f"127.0.0.1:{pg18_shop}").replace(
        "database: shop", "database: postgres"
    )
    text = text.replace("user: shop_reader", "user: by_scram").replace(
        "{name: catalog,", "{name: catalog, user: by_scram,"
    )
    config.write_text(text)
    sql = "select id, ssn, upper(name) from customers; select * from customers where ssn = '1'"
    arguments = ("--subject", "ann", "--group", "data", "--target", "shop", sql)
    assert run("explain", "--config", config, *arguments) == 0
    shown = capsys.readouterr().out
    assert "unknown" not in shown
    assert "touches  select shop.customers (id, name, ssn)" in shown
    assert "column 2 (shop.customers.ssn) is rewritten by the mask identity-numbers" in shown
    assert shown.count("decision allow") == 1
    assert shown.count("decision deny") == 1
    assert shown.splitlines()[-1] == "=> deny"
