"""Each built-in detector: what it finds, exactly, and what is only nearly one."""

# ruff: noqa: RUF001  digits of other scripts are the point

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policy.detectors import GROUPS, KINDS, NAMES, DetectorSet

EVERYTHING = DetectorSet.of(NAMES)

# In each text what is found stands between guillemets; a text without any has nothing to find.
CARDS = [
    "«4111111111111111»",
    "«4111 1111 1111 1111»",
    "«4111-1111-1111-1111»",
    "card=«5555555555554444»;",
    '{"card":"«5105105105105100»","n":1}',
    "«3782 822463 10005» is American Express",
    "«371449635398431»",
    "«6011111111111117», «3530111333300000», «30569309025904», «36148900647913»",
    "«2223003122003222» of the new range, «2720990000000007», not 2720990000000008",
    "«6240008631401148» «8171999927660000»",
    "«6759649826438453», «6763120000000000002», «5018710000008»",
    "«4222222222222»",
    "12 «4111 1111 1111 1111» 99",
    "4000 «4111 1111 1111 1111»",
    "card_«4111111111111111»_x",
    "«4111 1111 1111 1111» 4111 1111 1111 1112",
    "«4111.1111.1111.1111»",
    "[«4111111111111111».0, «4111111111111111».00] not 4111111111111111.05, 4111111111111111.000",
    "«4111\u00a01111\u00a01111\u00a01111», «4111\u20091111\u20091111\u20091111», «4111\u20111111\u20111111\u20111111»",
    "«４１１１１１１１１１１１１１１１»。«４１１１ １１１１ １１１１ １１１１»",
    "بطاقة «٤١١١١١١١١١١١١١١١»، «4111\u200b1111\u200b1111\u200b1111»",
    "né «4111–1111–1111–1111» à",
    "no: ４１１１１１１１１１１１１１１２, 4111\u00a01111\u00a01111\u00a01112, 1\u202f700\u202f000\u202f000\u202f000",
    "no: 4111111111111112",
    "no: 41111111111111111",
    "no: 1111111111111117",
    "no: a4111111111111111 and 4111111111111111f",
    "no: 0.4111111111111111 and 4111111111111111.5",
    "no: 1700000000000, 1732212279123, 20261121180439000",
    "no: 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "no: 41 11 11 11 11 11 11 11, 4077 1083 1083 4 3386, 411 111 111 111 1111",
    "«4111 1111 1111 1111» 123 «41111111 11111111»",
]
SSNS = [
    "«123-45-6789»",
    "«123 45 6789».",
    '"ssn": "«123456789»"',
    "SSN «123456789»; Social Security Number: «219099999»",
    "social_security=«078051120»",
    "«123.45.6789» «123\u00a045\u00a06789» «123\u201145\u20116789» «123–45–6789» «１２３-４５-６７８９»",
    "SSN：«１２３４５６７８９»",
    "no: 1.123.45.6789, 123.45.6789.1, 12.123.45.67890",
    "no: 000-45-6789, 666-45-6789, 900-45-6789, 123-00-6789, 123-45-0000",
    "no: 123-456789, 123 45-6789, 123456789",
    "no: 1123-45-6789, 123-45-67890, 123-45-6789-1, 5-123-45-6789",
    "no: ssn 000456789, 869 869 16 3552 0, 10 718 16 1511 0",
]
MAILS = [
    "«alice@example.com»",
    "<«alice@example.com»>, mailto:«bob.smith+tag@mail.example.co.uk».",
    "'«alice@example.com»' user=«alice@example.com»,«b@c.de»",
    "«o'brien@example.com» «first_last%site@example.com»",
    "«jürgen@müller.example» and «用户@例子.公司»",
    "https://x.example/?mail=«a@b.example»&x=1",
    "\\n«foo@example.com»\\r\\t«bar@example.com»",
    "«4111111111111111@example.com»",
    "«ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ» «bob＠example.com»",
    "no: alice@localhost, alice@, @example.com, a@b, a@b.c",
    "no: icon@2x.png, getty@tty1.service, react@18.2.0, alice@10.0.0.1x",
    "no: a@b..com",
]
PHONES = [
    "«+12125550187» «+1 212 555 0187», «+1 (212) 555-0187», «+1-212-555-0187»",
    "«+49 30 901820» «+44 20 7946 0958» «+33 1 42 68 53 00» «+919876543210»",
    "«(212) 555-0187» «212-555-0187» «212.555.0187» «212 555-0187» «555-123-4567»",
    "«020 7946 0958», «(020) 7946 0958», «01 42 68 53 00», «030/1234567», «07700 900123», «0151-12345678»",
    "«0049 30 901820»",
    "«+49\u00a030\u00a0901820» «+1\u2011212\u2011555\u20110187» «＋１ ２１２ ５５５ ０１８７», «(212)\u00a0555–0187»",
    'phone: «2125550187», tel=«(0)30 901820», "mobile": "«0151 23456789»"',
    "two: «+1 212 555 0187» «+49 30 901820»",
    "no: 2125550187, 1732212279, 1732212279123, 20261121",
    "no: 2026-11-21 18:04:39+0000, 18:04:39.123456+01:00",
    "no: +000000000000, +99912345678, +1700000000, 1e+1234567890",
    "no: 10.212.555.0187, 200 512 1234, 1.2.3.4",
    "no: telemetry-metadata-1481066021297, 0100 0101 0110 0111, 0044-03-15 12:00:00",
    "no: 00 01 02 03 04 05 06, a0 01 42 68 53 00 ff, news/0104/010417.html",
    "no: 550e8400-e29b-41d4-a716-446655440000",
]
IBANS = [
    "«DE89370400440532013000» «DE89 3704 0044 0532 0130 00»",
    "«GB82WEST12345698765432», «GB82-WEST-1234-5698-7654-32»",
    "«FR1420041010050500013M02606» «NO9386011117947» «gb82 west 1234 5698 7654 32»",
    "«DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000»",
    "«ＤＥ８９３７０４００４４０５３２０１３０００» «DE89.3704.0044.0532.0130.00»",
    "iban:«MT84MALT011000012345MTLCAST001S»!",
    "no: DE89370400440532013001, DE8937040044053201300, XX89370400440532013000",
    "no: aDE89370400440532013000, DE893704004405320130000",
    "no: de12 the quick brown fox jumps",
]
ADDRESSES = [
    "«10.0.0.1», «255.255.255.255»:8080 and «192.168.1.0»/24.",
    "from=«172.16.254.1».",
    "[«2001:db8::1»]:443 «::1» «fe80::1»%eth0 «2001:db8:0:0:0:0:0:1»/64",
    "«::ffff:10.1.2.3», «2001:db8::», peer:«2001:db8::5».",
    "no: 256.1.1.1, 1.2.3, v1.2.3.4, 1.2.3.4.5, 1.2.3.4a",
    "no: 18:04:39, 00:1a:2b:3c:4d:5e, 00:11:22:33:44:55:66:77, std::vector, a::b, Foo::bar, ::",
    "no: x2001:db8::1, user:x:1000:1000::/home/user",
]
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
)
JWTS = [
    f"Bearer «{JWT}»",
    f'"token":"«{JWT}»",',
    f"cookie=«{JWT.rpartition('.')[0]}.»; none",
    "no: eyJmb28iOiJiYXIifQ.eyJzdWIiOiIxMjM0NTY3ODkwIn0.xxxxxxxx",
    "no: eyes.everywhere.looking, eyJhbGciOiJIUzI1NiIs and eyJhbGciOiJIUzI1NiIs.short",
]
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AWS = [
    "«AKIAIOSFODNN7EXAMPLE» «ASIAIOSFODNN7EXAMPLE»",
    f"aws_secret_access_key = «{SECRET}»",
    f'"SecretAccessKey": "«{SECRET}»",',
    f"«AKIAIOSFODNN7EXAMPLE»,«{SECRET}»",
    f"«AKIAIOSFODNN7EXAMPLE» and its secret is «{SECRET}».",
    f"aws_session_token=«{'FwoGZXIvYXdzE' * 12}==»",
    f"no: {SECRET}",
    "no: AKIAIOSFODNN7EXAMPL, XAKIAIOSFODNN7EXAMPLE, AKIAIOSFODNN7EXAMPLE1",
    f"no: secret_access_key = {SECRET}x",
]
A36 = "abcdefghijklmnopqrstuvwxyz0123456789"
A64 = A36 + A36[:28]
HEX = "0123456789abcdef"
# Shapes as the services publish them; what is between guillemets is made up.
OTHERS = [
    (
        "gcp_key",
        [
            f"«AIza{A36[:35]}» «ya29.a0{A36}» «GOCSPX-abcdefghijklmnopqrstuvwxyz12»",
            f'"refresh_token": "«1//0{A64}»"',
            "no: AIzaShort, 1//0 and 21//0, ya29.short, GOCSPX-",
        ],
    ),
    (
        "azure_key",
        [
            f"AccountKey=«{'A' * 86}==»;EndpointSuffix=x",
            f"https://x.example/?sv=1&sig=«{A36}abcdefg%3D»&se=2",
            f"«abc8Q~{A36[:34]}»",
            f"key «{A64}{A36[:12]}+AStabc123==» of a storage account",
            f"cosmos «{A64}{A36[:12]}ACDbabc123==»",
            f"«{A64}{A36[:12]}AZDOab12»",
            f"«{A36[:26]}{A36[:26]}JQQJ99{A36[:26]}»",
            "no: key=abc==, sig=abc, 8Q~short",
        ],
    ),
    (
        "github_token",
        [
            f"«ghp_{A36}» «gho_{A36}» «ghu_{A36}» «ghs_{A36}» «ghr_{A36}»",
            f"«github_pat_{A36[:22]}_{A36}{A36[:23]}»",
            f"https://x-access-token:«ghs_{A36}»@github.com/x/y",
            "no: ghp_short, github_pat_, xghp_, github_pattern_matching_and_other_things",
        ],
    ),
    (
        "gitlab_token",
        [
            "«glpat-abcdefghij0123456789» «glrt-abcdefghij_123456789» «gldt-abcdefghij0123456789»",
            "«glpat-abcdefghij0123456789abcdefg.01.0a1b2c3d4» «GR1348941abcdefghij0123456789»",
            "no: glpat-short, glpatter-abcdefghij0123456789",
        ],
    ),
    (
        "slack_token",
        [
            "«xoxb-123456789012-abcdefghij» «xoxp-1234567890-abc» «xoxe.xoxp-1-abcdefghij» «xapp-1-A0123-abcdefg»",
            "https://«hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXX»",
            "no: xoxb-1, xapp-x, slack.com/services/",
        ],
    ),
    (
        "stripe_key",
        [
            f"«sk_live_{A36[:24]}» «rk_test_{A36[:24]}» «sk_org_live_{A36[:24]}» «whsec_{A36}»",
            "no: pk_live_public, sk_live_x, task_live_abcdefghijklmnopqrst, sk_lively",
        ],
    ),
    (
        "model_key",
        [
            f"«sk-proj-{A36}» «sk-ant-api03-{A36}» «sk-ant-admin01-{A36}» «sk-svcacct-{A36}»",
            f"«sk-{A36}{A36}», «sk-{HEX}{HEX}», «sk-or-v1-{A64}», «hf_{A36[:34]}»",
            f"«gsk_{A64[:52]}» «xai-{A64}{A36[:16]}» «pplx-{A64[:48]}» «r8_{A64[:37]}»",
            f"«ABSK{A64}{A64}==»",
            f"no: sk-learn, task-force, sk-{HEX}, hf_hub, r8_short, sk-{HEX}{HEX}g",
        ],
    ),
    (
        "registry_token",
        [
            f"«npm_{A36}» «pypi-AgEIcHlwaS5vcmc{A36}» «dckr_pat_{A36[:27]}» «rubygems_{HEX * 3}»",
            f"«SG.{A36[:22]}.{A64[:43]}» «dop_v1_{HEX * 4}» «doo_v1_{HEX * 4}»",
            f"«hvs.{A36}» «hvb.{A36}» «{A36[:14]}.atlasv1.{A64}»",
            "no: npm_install, pypi-server, SG.short, hvs.x, dop_v1_x, atlasv1",
        ],
    ),
    (
        "service_token",
        [
            f"«SK{HEX * 2}» «key-{HEX * 2}» «{HEX * 2}-us12» «shpat_{HEX * 2}» «dapi{HEX * 2}»",
            f"«lin_api_{A64[:40]}» «ATATT3{A64}{A64}» «glsa_{A64[:32]}_01234567»",
            f"«PMAK-{(HEX * 2)[:24]}-{(HEX * 3)[:34]}»",
            f"«NRAK-{A36.upper()[:27]}» «pul-{(HEX * 3)[:40]}» «dp.pt.{A64[:40]}» «sbp_{(HEX * 3)[:40]}»",
            f"«sntryu_{HEX * 4}» «tskey-auth-{A36[:12]}-{A36}» bot «123456789:AA{A64[:33]}»",
            f"«pat{A36[:14]}.{HEX * 4}» «AGE-SECRET-KEY-1{A64.upper()[:58]}» «sq0csp-{A64[:43]}»",
            f"no: {HEX * 2}, key-{HEX}, SKU1234, sha256:{HEX * 4}, {HEX * 2}-us-east-1",
            f"no: pat_x, shpat_x, monkey-{HEX * 2}x, 12:AA, tskey-x, 123456789:AAshort",
        ],
    ),
]
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc+/=\n-----END RSA PRIVATE KEY-----"
KEYS = [
    f"before\n«{PEM}»\nafter",
    "«" + PEM.replace("\n", "\\n") + "»",
    "«" + PEM.replace("RSA ", "OPENSSH ") + "» «" + PEM.replace("RSA ", "") + "»",
    "«" + PEM.replace("RSA ", "ENCRYPTED ") + "»",
    "«-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2 (x)\n\nlQ\n-----END PGP PRIVATE KEY BLOCK-----»",
    '«---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: "x"\nP2/56wAAA\n---- END SSH2 ENCRYPTED PRIVATE KEY ----»',
    "«PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nPrivate-Lines: 1\nAAAB\nPrivate-MAC: 0a1b\n»x",
    "«-----BEGIN PRIVATE KEY-----\nMIIE\nabc=\n»$ ls.",  # cut off
    "«-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\nMIIE\n»# end",
    "no: -----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----",
    "no: -----BEGIN CERTIFICATE-----",
]

TABLE = [
    (kind, text)
    for kind, texts in [
        ("credit_card", CARDS),
        ("us_ssn", SSNS),
        ("email", MAILS),
        ("phone", PHONES),
        ("iban", IBANS),
        ("ip", ADDRESSES),
        ("jwt", JWTS),
        ("aws_key", AWS),
        ("private_key", KEYS),
        *OTHERS,
    ]
    for text in texts
]


def marked(text: str) -> tuple[bytes, list[bytes]]:
    """The text without its guillemets, and what stands between them."""
    pieces = text.replace("»", "«").split("«")
    return "".join(pieces).encode(), [piece.encode() for piece in pieces[1::2]]


def in_rows(data: bytes) -> Iterator[bytes]:
    """A value with its length in front, made so long that the length ends in a letter, and something behind it."""
    for last in b"0z_":
        size = next(
            size for size in range(len(data), 20_000) if size & 0xFF == last and size >= len(data) + 4
        )
        value = data + b" " * (size - len(data))
        for behind in (b"", b"D\x00\x00", b"\x00\x00\x00\x02", b"\xff\xff\xff\xff"):
            yield b"D\x00\x00\x00\x09\x00\x01" + size.to_bytes(4) + value + behind
        yield b"d" + size.to_bytes(4) + value[:-4]
        yield b"d" + size.to_bytes(4) + value[:-4] + b"d\x00\x00\x00\x05x"


@pytest.mark.parametrize(("kind", "text"), TABLE, ids=range(len(TABLE)))
def test_what_one_kind_finds(kind: str, text: str) -> None:
    data, wanted = marked(text)
    detectors = DetectorSet.of([kind])
    assert [data[match.start : match.end] for match in detectors.find(data)] == wanted
    assert {match.kind for match in detectors.find(data)} <= {kind}
    assert detectors.may_match(data) or not wanted
    for row in in_rows(data):
        assert detectors.may_match_inside(row) or not wanted


@pytest.mark.parametrize(("kind", "text"), TABLE, ids=range(len(TABLE)))
def test_all_kinds_together_cover_what_one_finds(kind: str, text: str) -> None:
    data, wanted = marked(text)
    covered = [data[match.start : match.end] for match in EVERYTHING.find(data)]
    assert all(any(value in found for found in covered) for value in wanted)


def test_the_table_has_every_kind() -> None:
    assert {kind for kind, text in TABLE if "«" in text} == set(KINDS)


def test_groups_are_of_kinds() -> None:
    assert all(member in KINDS for members in GROUPS.values() for member in members)
    found = DetectorSet.of(["cloud_key"]).find(b"x AKIAIOSFODNN7EXAMPLE glpat-abcdefghij0123456789")
    assert [match.kind for match in found] == ["aws_key", "gitlab_token"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (b"4111111111111111@example.com", ["email"]),
        (b"a@example.com 10.0.0.1", ["email", "ip"]),
        (b"DE89 3704 0044 0532 0130 00", ["iban"]),
        (b"a@b.example\n" * 3, ["email"] * 3),
    ],
)
def test_the_longest_names_what_overlaps(text: bytes, kinds: list[str]) -> None:
    assert [match.kind for match in EVERYTHING.find(text)] == kinds
