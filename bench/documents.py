"""The configuration files of the contestants: PgBouncer's, and the gateway's with its policy."""

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

PROXYD = """\
version: 1
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
policy: policy.yaml
tapes: {{directory: tapes, reply_limit: 16MiB}}
log: {{level: info}}
drain_timeout: 2s
"""

POLICY = """\
version: 1
roles:
  bench: {groups: [bench]}
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
