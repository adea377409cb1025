"""Policies that the end-to-end tests put in force: who may do what with the shop, and what they see of it.

`ALICE_AND_DORA` is the everyday one: alice (group data) reads and changes the shop under masks, dora (group
dba) may do everything and sees everything.
"""

from __future__ import annotations

from policy.commands import MUST_BE_NAMED

EVERYTHING = f"""
  - name: dbas-do-everything
    effect: allow
    roles: [dba]
    postgres:
      commands: ["*", {", ".join(sorted(MUST_BE_NAMED))}]
  - name: dbas-call-everything
    effect: allow
    roles: [dba]
    postgres: {{functions: ["*.*"]}}
  - name: dbas-set-everything
    effect: allow
    roles: [dba]
    postgres: {{settings: ["*"]}}
"""

ALICE_AND_DORA = f"""\
version: 1

roles:
  analyst: {{groups: [data]}}
  dba: {{groups: [dba]}}

access:
  - name: analysts-use-the-shop
    roles: [analyst]
    targets: {{labels: {{env: prod}}, protocol: postgres}}
    logins: [readonly]
    session: {{max: 8h, idle: 30m}}
  - name: dbas-administer
    roles: [dba]
    targets: {{labels: {{env: prod}}, protocol: postgres}}
    logins: [admin]

rules:
  - name: read-the-shop
    effect: allow
    roles: [analyst]
    postgres: {{commands: [select], relations: ["shop.*"]}}
  - name: change-the-shop
    effect: allow
    roles: [analyst]
    postgres: {{commands: [insert, update, delete, copy_from], relations: ["shop.*"]}}
  - name: no-secrets-table
    effect: deny
    roles: [analyst]
    postgres: {{relations: ["*.api_keys"]}}
    message: "API keys are not readable through the gateway."
{EVERYTHING}
masks:
  - name: contact-data
    columns: ["shop.customers.email", "shop.customers.phone"]
    method: {{partial: {{keep_last: 4}}}}
    unless: {{roles: [dba]}}
  - name: identity-numbers
    columns: ["*.*.ssn", "*.*.card_number"]
    method: redact
    unless: {{roles: [dba]}}
  - name: same-person-same-token
    columns: ["shop.customers.id_number"]
    method: {{pseudonym: {{key: customers}}}}
    unless: {{roles: [dba]}}
  - name: no-birthdays
    columns: ["shop.customers.birth_date"]
    method: "null"
    unless: {{roles: [dba]}}
"""
