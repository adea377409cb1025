"""The configuration files of the contestants: PgBouncer's, nginx's, and the gateway's with its policy."""

from __future__ import annotations

from typing import Any

import yaml

PGBOUNCER = """\
[databases]
{database} = host=127.0.0.1 port={target_port} dbname={database}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users
pool_mode = session
default_pool_size = 50
max_client_conn = 200
client_tls_sslmode = require
client_tls_key_file = {directory}/server.key
client_tls_cert_file = {directory}/server.crt
server_tls_sslmode = {server_tls}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
"""

# What the gateway's configuration and policy are, whatever doors it has.
PROXYD_ALL = """\
version: 1
policy: policy.yaml
tapes: {directory: tapes, reply_limit: 16MiB}
log: {level: info}
drain_timeout: 2s
"""

POLICY_ALL = """\
version: 1
roles:
  bench: {groups: [bench]}
"""

PROXYD = """\
listeners:
  - name: postgres
    protocol: postgres
    address: 127.0.0.1:{port}
    tls:
      certificate: {pki}/server.crt
      key: {pki}/server.key
      client_ca: {pki}/ca.crt
      client_certificates: required
      crl: {pki}/ca.crl
identity:
  certificates: {{name: [cn], groups: {{from: [ou]}}}}
targets:
  - name: {database}
    protocol: postgres
    address: 127.0.0.1:{target_port}
    labels: {{env: bench}}
    database: {database}
    tls: {{mode: {target_tls}}}
    logins:
      - {{name: readonly, user: {account}, password: {{file: password}}}}
    catalog: {{login: readonly, poll: 1s}}
"""

POLICY = """\
access:
  - name: bench
    roles: [bench]
    targets: {labels: {env: bench}}
    logins: [readonly]
    session: {max: 8h, idle: 1h}
rules:
  - name: read
    effect: allow
    roles: [bench]
    postgres: {commands: [select], relations: ["public.*"]}
  - name: no-secrets
    effect: deny
    postgres: {relations: ["*.api_keys"]}
  - name: no-unbounded-change
    effect: deny
    postgres: {commands: [update, delete], where: absent}
masks:
  - name: contact
    columns: ["*.people.email"]
    method: {partial: {keep_last: 4}}
"""

PROXYD_SSH = """\
listeners:
  - name: ssh
    protocol: ssh
    address: 127.0.0.1:{port}
    host_keys: [{host_key}]
    client_ca: {people_authority}
    limits: {{connections: 500, connections_per_subject: 500, handshake_timeout: 60s}}
identity:
  people: [{{name: {person}, groups: [bench]}}]
ssh_authority: {{key: {{file: {authority}}}, lifetime: 5m}}
targets:
  - name: web1
    protocol: ssh
    address: 127.0.0.1:{target_port}
    labels: {{env: bench-ssh}}
    host_keys: {{known_hosts: {known_hosts}}}
    environment: [LANG, "LC_*"]
    logins: [{{name: {login}, user: {user}, certificate: true}}]
"""

POLICY_SSH = """\
access:
  - name: bench-ssh
    roles: [bench]
    targets: {labels: {env: bench-ssh}}
    logins: [bench]
    session: {max: 8h, idle: 1h}
rules:
  - name: work
    effect: allow
    roles: [bench]
    ssh: {shell: true, exec: ["true", "uptime", "systemctl status *", "journalctl *"]}
  - name: files
    effect: allow
    roles: [bench]
    ssh: {files: ["*"], paths: ["/srv/**", "/tmp/**", "/dev/shm/**"]}
  - name: no-removal
    effect: deny
    ssh: {exec: ["rm *", "shred *"]}
  - name: not-the-system
    effect: deny
    ssh: {files: [write, setstat, remove, rename], paths: ["/etc/**", "/usr/**"]}
  - name: no-ways-onward
    effect: deny
    ssh: {forward: ["*:*"], listen: ["*:*"], agent: true, x11: true}
"""

NGINX = """\
{user} daemon off; worker_processes 1; pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 10000000;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
{site}
}}
"""

# What all ways lead to: a small answer, and a file.
NGINX_TARGET = """\
  server {{ listen 127.0.0.1:@PORT@; root {files};
    location /small {{ default_type application/json; return 200 '{{"id": 1, "items": [1, 2, 3]}}'; }}
    location / {{ default_type application/octet-stream; }}
  }}
"""

NGINX_PROXY = """\
  upstream target {{ server 127.0.0.1:{target}; keepalive 64; keepalive_requests 10000000; }}
  upstream events {{ server 127.0.0.1:{events}; }}
  server {{ listen 127.0.0.1:@PORT@ ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering on;
    location /events {{ proxy_buffering off; proxy_pass http://events; }}
    location / {{ proxy_pass http://target; }}
  }}
"""

PROXYD_HTTP = """\
listeners:
  - name: web
    protocol: http
    address: 127.0.0.1:{port}
    tls: {{certificate: {pki}/server.crt, key: {pki}/server.key, client_certificates: none}}
    factors: [[token]]
identity:
  issuers:
    - {{name: bench, issuer: "{issuer}", audiences: [{audience}], claims: {{name: sub, groups: groups}}}}
targets:
  - name: api
    protocol: http
    url: http://127.0.0.1:{target}
    labels: {{env: bench-http}}
    logins: [{{name: bench, bearer: {{file: api-token}}}}]
  - name: events
    protocol: http
    url: http://127.0.0.1:{events}
    labels: {{env: bench-http}}
    logins: [{{name: bench, bearer: {{file: api-token}}}}]
"""

POLICY_HTTP = """\
access:
  - name: bench-http
    roles: [bench]
    targets: {labels: {env: bench-http}}
    logins: [bench]
    session: {max: 8h, idle: 1h}
rules:
  - name: read-the-api
    effect: allow
    roles: [bench]
    http: {methods: [GET, HEAD], paths: ["/**"]}
  - name: no-admin
    effect: deny
    http: {paths: ["/admin/**"]}
  - name: no-secrets
    effect: deny
    http: {headers: {x-debug: ["*"]}}
"""


def parsed(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(text)
    return document
