"""The arithmetic of AWS's signatures: AWS's own vectors, the examples of the S3 manual, and botocore beside it."""

from __future__ import annotations

import datetime
import hashlib
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.messages import Headers
from proxyd.http_credentials.sigv4 import AwsKeys, AwsScope, amz_date, canonical_request, sign, string_to_sign

EMPTY = hashlib.sha256(b"").hexdigest()
SUITE = AwsScope("us-east-1", "service")
SUITE_KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SUITE_DATE = "20150830T123600Z"
SUITE_HEADERS: Headers = (("host", "example.amazonaws.com"), ("x-amz-date", SUITE_DATE))
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = hashlib.sha256(b"Param1=value1").hexdigest()
SESSION = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"

# The names are those of AWS's suite: method, target, headers besides, hash of the body, signature.
VECTORS = {
    "get-vanilla": (
        "GET",
        "/",
        (),
        EMPTY,
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "post-vanilla": (
        "POST",
        "/",
        (),
        EMPTY,
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "get-unreserved": (
        *("GET", f"/{UNRESERVED}", (), EMPTY),
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": ("GET", "/ሴ", (), EMPTY, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-space": (
        *("GET", "/example space/", (), EMPTY),
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "get-relative": (  # and get-slash: what is left of them is "/", so they are signed as get-vanilla is
        *("GET", "/example/..", (), EMPTY),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-slash": ("GET", "//", (), EMPTY, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-vanilla-query-order-key-case": (
        *("GET", "/?Param2=value2&Param1=value1", (), EMPTY),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-empty-query-key": (
        *("GET", "/?Param1=value1", (), EMPTY),
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-vanilla-query-order-encoded": (
        *("GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", (), EMPTY),
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    "get-vanilla-query-unreserved": (
        *("GET", f"/?{UNRESERVED}={UNRESERVED}", (), EMPTY),
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-vanilla-utf8-query": (
        *("GET", "/?ሴ=bar", (), EMPTY),
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "get-vanilla-with-session-token": (
        *("GET", "/", (("x-amz-security-token", SESSION),), EMPTY),
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    "get-header-key-duplicate": (
        *("GET", "/", (("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")), EMPTY),
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "get-header-value-trim": (
        *("GET", "/", (("my-header1", " value1"), ("my-header2", ' "a   b   c"')), EMPTY),
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "post-vanilla-query": (
        *("POST", "/?Param1=value1", (), EMPTY),
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    "post-header-value-case": (
        *("POST", "/", (("my-header1", "VALUE1"),), EMPTY),
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    "post-x-www-form-urlencoded": (
        "POST",
        "/",
        (
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", "13"),
            ("x-amz-content-sha256", FORM),
        ),
        FORM,
        "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_suite_of_aws(name: str) -> None:
    method, target, headers, payload, signature = VECTORS[name]
    signed = sign(SUITE_KEYS, SUITE, method, target, (*SUITE_HEADERS, *headers), payload, SUITE_DATE)
    names = ";".join(sorted({"host", "x-amz-date", *(header for header, _ in headers)}))
    credential = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    assert signed == f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"


S3 = AwsScope("us-east-1", "s3")
S3_KEYS = AwsKeys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()

# "Signature Calculations for the Authorization Header" of the S3 manual.
S3_EXAMPLES = {
    "GET Object": (
        *("GET", "/test.txt", (("range", "bytes=0-9"),), EMPTY),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "PUT Object": (
        "PUT",
        "/test$file.text",
        (("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")),
        WELCOME,
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "GET Bucket Lifecycle": (
        *("GET", "/?lifecycle", (), EMPTY),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "List Objects": (
        *("GET", "/?max-keys=2&prefix=J", (), EMPTY),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize("name", S3_EXAMPLES)
def test_the_examples_of_s3(name: str) -> None:
    method, target, headers, payload, signature = S3_EXAMPLES[name]
    fixed = (
        ("host", "examplebucket.s3.amazonaws.com"),
        ("x-amz-content-sha256", payload),
        ("x-amz-date", "20130524T000000Z"),
    )
    signed = sign(S3_KEYS, S3, method, target, (*fixed, *headers), payload, "20130524T000000Z")
    assert signed.endswith(f"Signature={signature}")


SEGMENT = st.text(st.sampled_from("abcXYZ019-._~"), min_size=1, max_size=8).filter(
    lambda text: text not in (".", "..")
)
ENCODED = st.sampled_from(["%20", "%2B", "%C3%A9", "%24", "%3D"])
WORD = st.lists(st.one_of(SEGMENT, ENCODED), min_size=1, max_size=4).map("".join)


def by_botocore(service: str, method: str, target: str, payload: bytes) -> str:
    """The signature that AWS's own library makes of the same request at the same moment."""
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    moment = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC)
    request = AWSRequest(method, f"https://bucket.example{target}", data=payload)
    if service == "s3":
        request.headers["x-amz-content-sha256"] = hashlib.sha256(payload).hexdigest()
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment):
        kind(Credentials("AKID", "secret"), service, "eu-central-1").add_auth(request)
    return str(request.headers["Authorization"])


@given(
    st.sampled_from(["s3", "execute-api"]),
    st.sampled_from(["GET", "PUT", "DELETE"]),
    st.lists(WORD, max_size=4),
    st.lists(st.tuples(WORD, WORD), max_size=4),
    st.binary(max_size=32),
)
def test_botocore_signs_the_same(
    service: str, method: str, segments: list[str], query: list[tuple[str, str]], payload: bytes
) -> None:
    pairs = "&".join(f"{name}={value}" for name, value in query)
    target = "/" + "/".join(segments) + (f"?{pairs}" if pairs else "")
    digest = hashlib.sha256(payload).hexdigest()
    headers: Headers = (("host", "bucket.example"), ("x-amz-date", "20261121T120000Z"))
    if service == "s3":
        headers = (*headers, ("x-amz-content-sha256", digest))
    scope = AwsScope("eu-central-1", service)
    ours = sign(AwsKeys("AKID", "secret"), scope, method, target, headers, digest, "20261121T120000Z")
    assert ours == by_botocore(service, method, target, payload)


@pytest.mark.parametrize(
    ("service", "target", "path", "query"),
    [
        ("s3", "/a%2fb", "/a/b", ""),  # S3 has one name space: an encoded slash is a slash of the key
        ("s3", "/a//b/../c", "/a//b/../c", ""),
        ("s3", "/a+b(1)", "/a%2Bb%281%29", ""),
        ("s3", "", "/", ""),
        ("service", "/a/./b/../c/", "/a/c/", ""),
        ("service", "/a%20b", "/a%2520b", ""),
        ("service", "/?b=2&a=x+y&a=%7e&c", "/", "a=x%20y&a=~&b=2&c="),
        ("service", "/?a=%zz", "/", "a=%25zz"),
        ("service", "/?a=%ff%fe", "/", "a=%FF%FE"),
    ],
)
def test_paths_and_queries_in_their_canonical_form(service: str, target: str, path: str, query: str) -> None:
    _, text = canonical_request(AwsScope("r", service), "GET", target, SUITE_HEADERS, EMPTY)
    assert text.split("\n")[1:3] == [path, query]


def test_field_values_are_bytes() -> None:
    """Latin-1 is how they are kept; what goes over the wire, and is hashed, are the bytes."""
    headers: Headers = (*SUITE_HEADERS, ("x-amz-meta-name", "\u00e9t\u00e9"))
    _, request = canonical_request(SUITE, "GET", "/", headers, EMPTY)
    scope = "20150830/us-east-1/service/aws4_request"
    digest = hashlib.sha256(request.encode("latin-1")).hexdigest()
    assert string_to_sign(request, SUITE_DATE, scope).endswith(f"\n{digest}")


def test_keys_do_not_show_themselves() -> None:
    shown = repr(AwsKeys("AKID", "secret-key", "session"))
    assert "AKID" in shown
    assert "secret-key" not in shown
    assert "session'" not in shown


def test_the_date() -> None:
    assert amz_date(1_440_938_160.9) == SUITE_DATE
