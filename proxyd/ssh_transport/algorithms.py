"""Which ciphers, hashes, signatures and key exchanges are offered, and the version that is shown.

Must never hold anything with SHA-1, CBC or compression: what is not listed here is not spoken on either leg.
"""

from __future__ import annotations

from asyncssh.kex import get_kex_algs

# AES-GCM is what processors have instructions for, and it needs no hash besides. Which cipher is used is the first of
# the client's list that is in ours (RFC 4253, 7.1), and OpenSSH's list puts it last: so its clients, all of which have
# it since 6.2, are offered nothing else.
AES_GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CIPHERS = (*AES_GCM, "aes256-ctr", "aes192-ctr", "aes128-ctr")
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

# Of what asyncssh has, without SHA-1, without groups of the client's choice, and without the exchange for which the
# server makes an RSA key each time: strangers may ask for it again and again, and everybody would wait.
KEY_EXCHANGES = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)

# RFC 4253, 9, and what OpenSSH's own default comes to. Either end may ask for new keys earlier.
REKEY_BYTES = 1024 * 1024 * 1024
REKEY_S = 3600.0

# OpenSSH's client and server only use their own extensions (eow@openssh.com, which ends `ssh host yes | head`) with a
# peer whose version begins so.
VERSION_PREFIX = "OpenSSH_compatible_proxyd_"


def known_key_exchanges() -> list[str]:
    """Those of the list that this machine's asyncssh has; some need a library that is not everywhere."""
    return [name for name in KEY_EXCHANGES if name.encode() in get_kex_algs()]
