"""Ansible, as people run it: ad hoc and playbooks, with and without pipelining, over sftp, scp or a pipe."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from demo.gateway import program
from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_peers import unix_directory
from tests.end_to_end.ssh_route import SshRoute, run

TIMEOUT_S = 180.0

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: directory
      file: {path: "{{ place }}", state: directory, mode: "0750"}
    - name: copy
      copy: {src: "{{ source }}", dest: "{{ place }}/copied"}
    - name: template
      template: {src: "{{ template }}", dest: "{{ place }}/rendered", mode: "0600"}
    - name: command
      command: {cmd: sha256sum copied, chdir: "{{ place }}"}
      register: summed
    - name: shell
      shell: 'cat rendered | tr a-z A-Z > upper; echo $FOO'
      args: {chdir: "{{ place }}"}
      environment: {FOO: 'a "b" $c'}
      register: shouted
    - name: fetch
      fetch: {src: "{{ place }}/upper", dest: "{{ back }}", flat: true}
    - name: facts
      setup: {gather_subset: ["!all", "!min", "python"]}
    - name: loop
      lineinfile: {path: "{{ place }}/list", line: "item {{ item }}", create: true, mode: "0644"}
      loop: [1, 2]
    - name: fails
      command: /bin/false
      register: failed
      ignore_errors: true
    - name: tell
      copy: {content: "{{ [summed.stdout, shouted.stdout, failed.rc] | to_json }}", dest: "{{ place }}/told"}
"""


class Ansible:
    """Its programs with an inventory of one host, and settings of its own below `directory`."""

    def __init__(self, route: SshRoute, directory: Path, sockets: Path, settings: Mapping[str, str]) -> None:
        self.directory = directory
        self._sockets = sockets  # of connections that are kept for a next run
        inventory = {"all": {"hosts": {route.name: {"ansible_python_interpreter": sys.executable}}}}
        (directory / "ansible.cfg").touch()
        (directory / "inventory.yaml").write_text(yaml.safe_dump(inventory))
        self._env = {
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            "ANSIBLE_HOME": str(directory / "home"),
            "ANSIBLE_LOCAL_TEMP": str(directory / "temporary"),
            "ANSIBLE_REMOTE_TMP": str(route.server.home / ".ansible"),
            "ANSIBLE_SSH_ARGS": f"-F {route.config} -o ControlMaster=auto -o ControlPersist=10s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._sockets),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "LC_ALL": "C.UTF-8",
            **settings,
        }
        self.route = route

    def run(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        words = [program(name), "-i", str(self.directory / "inventory.yaml"), *arguments]
        done = run(words, env={**self._env, **(env or {})}, timeout_s=TIMEOUT_S)
        return done.stdout.decode()

    def close(self) -> None:
        """End those connections."""
        for socket in self._sockets.iterdir():
            run(self.route.words("-S", str(socket), "-O", "exit", self.route.name), status=None)


TRANSPORTS = {
    "sftp": {"ANSIBLE_PIPELINING": "0", "ANSIBLE_SSH_TRANSFER_METHOD": "sftp"},
    "scp": {"ANSIBLE_PIPELINING": "0", "ANSIBLE_SSH_TRANSFER_METHOD": "scp"},
    "piped": {"ANSIBLE_PIPELINING": "0", "ANSIBLE_SSH_TRANSFER_METHOD": "piped"},
    "pipelining": {"ANSIBLE_PIPELINING": "1"},
}


@pytest.fixture(params=["sftp", "scp", "piped", "pipelining"])
def ansible(request: pytest.FixtureRequest, ssh_gateway: SshGateway, tmp_path: Path) -> Iterator[Ansible]:
    """Through the gateway: it takes its time, and that these tools work without one is known."""
    with unix_directory() as sockets:
        made = Ansible(ssh_gateway.route(), tmp_path, sockets, TRANSPORTS[request.param])
        yield made
        made.close()


def test_a_playbook(ansible: Ansible, tmp_path: Path) -> None:
    route = ansible.route
    place = route.server.home / "ansible"
    source, template, playbook = tmp_path / "source", tmp_path / "template.j2", tmp_path / "playbook.yaml"
    source.write_bytes(os.urandom(2_000_000))
    template.write_text("hello {{ inventory_hostname }}\n")
    playbook.write_text(PLAYBOOK)
    variables = {
        "place": str(place),
        "source": str(source),
        "template": str(template),
        "back": f"{tmp_path}/back",
    }
    output = ansible.run("ansible-playbook", "-e", json.dumps(variables), str(playbook))
    assert re.search(r" unreachable=0 +failed=0 .* ignored=1 ", output)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.loads((place / "told").read_text()) == [f"{digest}  copied", 'a "b" $c', 1]
    assert (place / "copied").read_bytes() == source.read_bytes()
    assert (place / "rendered").read_text() == f"hello {route.name}\n"
    assert (tmp_path / "back").read_text() == f"HELLO {route.name.upper()}\n"
    assert (place / "list").read_text() == "item 1\nitem 2\n"
    shutil.rmtree(place)


@pytest.mark.parametrize("ansible", ["sftp", "pipelining"], indirect=True)
def test_ad_hoc(ansible: Ansible) -> None:
    assert '"ping": "pong"' in ansible.run("ansible", "all", "-m", "ping")
    shown = ansible.run("ansible", "all", "-m", "shell", "-a", "echo $((6*7)); echo 'q\"uo'")
    assert "rc=0" in shown
    assert '42\nq"uo\n' in shown
