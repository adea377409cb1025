"""The tour's steps over HTTP and with tokens: what is said, what is run, what it must show. `steps` puts them behind
those over SSH.

What did or did not reach the API and the model is looked up in their own records.
"""

from __future__ import annotations

from demo.http_stage import API_HOST, has_http2
from demo.model import MODELS
from demo.model_replies import CUSTOMER
from demo.shop_api import note
from demo.stage import Stage
from demo.tour import SHELL, Check, Outcome, Step, ends_with, hides, shows

ORDER = 7
CARD = "4111 1111 1111 1111"  # also in what the stand-in for a model says of customers
MASKED = "<credit_card>"
REFUSED = 22  # of curl with --fail-with-body: an answer of 400 or more


def http_steps_for(stage: Stage) -> tuple[Step, ...]:
    """Those by curl only where there is one."""
    api = _api_steps(stage) if stage.has_curl else ()
    return (*_token_steps(stage), *api, *_model_steps(stage))


def _token_steps(stage: Stage) -> tuple[Step, ...]:
    by_psql = Step(
        "token",
        "One token for every door",
        f"Programs and agents come with a token of the company's issuer in place of a certificate. Here it is"
        f" {stage.http.issuer_says}. For psql the token is the password.",
        (*SHELL, 'PGPASSWORD="$(cat {token})" {psql} service=token -c "SELECT count(*) FROM shop.orders"'),
        (ends_with(0), shows(str(len(stage.shop.orders)))),
    )
    by_ssh = Step(
        "token_ssh",
        "The same one by ssh",
        "ssh is asked for the token, and here a small program gives it.",
        (*SHELL, "SSH_ASKPASS={askpass} SSH_ASKPASS_REQUIRE=force ssh -F {ssh_config} token.web1 ls www"),
        (ends_with(0), shows("index.html", "prices.csv")),
    )
    return (by_psql, by_ssh) if stage.has_ssh_client else (by_psql,)


def _api_steps(stage: Stage) -> tuple[Step, ...]:
    curl = ("curl", "-K", "{curl}")
    fields = [value for one in stage.shop.customers for value in (one.email, one.card_number, note(one))]
    private = hides(fields, "every e-mail and card, also in what somebody typed")
    version = "HTTP/2" if has_http2() else "HTTP/1.1"
    first, second = stage.shop.customers[:2]
    return (
        Step(
            "http",
            "HTTP: a third door",
            "The shop has an API. curl is curl; the path begins with the target's name. A mask by JSON path covers the"
            " e-mail address. Nobody declared the note: a detector found the card in it.",
            (
                *SHELL,
                'curl -sS --cacert {ca} --oauth2-bearer "$(cat {token})" {gateway}/t/api/customers/1',
            ),
            (ends_with(0), shows(first.name, '"email": "****', MASKED), private),
        ),
        Step(
            "http_injected",
            "The API sees the gateway's credential, never Alice's",
            "It says whose key came with the request. (From here on the token and the authority are in a file for"
            " curl.)",
            (*curl, "{gateway}/t/api/whoami"),
            (ends_with(0), shows('"account": "gateway"'), _no_token_arrived(stage)),
        ),
        Step(
            "http_past",
            "Past the gateway her token opens nothing",
            "The API knows one key, and no client has it.",
            (*curl, "{api}/whoami"),
            (ends_with(0), shows("this is not the key of this API")),
        ),
        Step(
            "http_denied",
            "A denial is an answer that a program can read",
            "application/problem+json with the rule and what to do next. The connection stays usable.",
            (*curl, "-i", "{gateway}/t/api/customers/export"),
            (
                ends_with(0),
                shows(f"{version} 403", "application/problem+json", "no-exports", '"hint":'),
                _nothing_arrived(stage, "GET", "/customers/export"),
            ),
        ),
        Step(
            "http_held",
            "A change that needs a second person, here too",
            "The order is as it was. (With --fail-with-body curl's own exit status says that it was refused.)",
            (*curl, "--fail-with-body", "-X", "DELETE", f"{{gateway}}/t/api/orders/{ORDER}"),
            (
                ends_with(REFUSED),
                shows("cancellations-wait-for-a-human", "approv"),
                _nothing_arrived(stage, "DELETE", f"/orders/{ORDER}"),
            ),
        ),
        Step(
            "http_body",
            "What is in a body counts",
            "Alice may order up to ten of a thing. The body is read before anything is sent.",
            (
                *(*curl, "--fail-with-body", "--json"),
                '{{"customer_id": 1, "product_id": 3, "quantity": 200}}',
                "{gateway}/t/api/orders",
            ),
            (
                ends_with(REFUSED),
                shows("small-orders", "10 or less"),
                _nothing_arrived(stage, "POST", "/orders"),
            ),
        ),
        Step(
            "http_explained",
            "What would be decided about two of them",
            "`proxyd explain` answers for requests as for SQL and commands, without sending anything.",
            (
                *("{proxyd}", "explain", "--config", "{config}", "--subject", "alice", "--group", "data"),
                *("--target", "api", "--method", "POST", "--path", "/orders"),
                *("--json-body", '{{"customer_id": 1, "product_id": 3, "quantity": 2}}'),
            ),
            (ends_with(0), shows("small-orders", "=> allow")),
        ),
        Step(
            "http_proxied",
            "For programs that know nothing but HTTPS_PROXY",
            "They ask for the API by its own name. What is in the tunnel is judged and masked all the same: the"
            " gateway's certificate in it is signed by an authority that may sign for this name and no other.",
            (
                *SHELL,
                'HTTPS_PROXY="https://alice:$(cat {token})@localhost:{gateway_port}" curl -sS --proxy-cacert {ca}'
                f" --cacert {{inspection}} https://{API_HOST}/customers/2",
            ),
            (ends_with(0), shows(second.name, MASKED), private),
        ),
        Step(
            "http_shown",
            "Requests are on the tape, as they were answered",
            "Alice's first one: who, what, the decision, and how often something was masked.",
            ("{proxyd}", "tape", "show", "{tape_http}"),
            (ends_with(0), shows("alice (data) by oidc", "use-the-api", MASKED, "masked:"), private),
        ),
        Step(
            "http_har",
            "...and go to other programs as HAR",
            "Developer tools of browsers open such a file.",
            (
                *SHELL,
                "{proxyd} tape export --format har --output {har} {tape_http_denied} &&"
                """ grep -o '"url": "[^"]*"' {har}""",
            ),
            (ends_with(0), shows("/customers/export")),
        ),
    )


def _model_steps(stage: Stage) -> tuple[Step, ...]:
    large = MODELS["openai"][-1]
    return (
        Step(
            "model",
            "A language model, by OpenAI's SDK",
            "The SDK knows nothing of the gateway but base_url, and has the token in place of a key. (The model is a"
            " stand-in on this machine.) The answer streams three letters at a time; the card in it is found all the"
            " same.",
            ("{ask}", "What does this customer buy?"),
            (ends_with(0), shows(CUSTOMER.replace(CARD, MASKED)), hides([CARD], "the card")),
        ),
        Step(
            "model_prompt",
            "What must not leave does not",
            "The model says back what it was asked: it never saw the number.",
            ("{ask}", f"Please charge {CARD}."),
            (ends_with(0), shows(f"You said: Please charge {MASKED}."), _prompts_hide(stage, CARD)),
        ),
        Step(
            "model_denied",
            "A model that is not allowed",
            "The refusal has the provider's shape, so the SDK raises its own exception with the gateway's words.",
            ("{ask}", "--model", large, "Hello"),
            (ends_with(1), shows("PermissionDeniedError", large), _prompts_hide(stage, "Hello")),
        ),
        Step(
            "budgets",
            "What it came to",
            "Each person has a budget for a day; it is kept over restarts. A call that does not fit is not sent.",
            ("{proxyd}", "budgets", "ls", "--config", "{config}"),
            (ends_with(0), shows("alice", "2 of 200", "of 1")),
        ),
    )


def _no_token_arrived(stage: Stage) -> Check:
    def is_so(_outcome: Outcome) -> bool:
        token = stage.http.token_file("alice").read_text().strip()
        calls = stage.http.api_calls()
        return bool(calls) and not any(token in value for call in calls for value in call.headers.values())

    return Check("no token has reached the API", is_so)


def _nothing_arrived(stage: Stage, method: str, path: str) -> Check:
    def is_so(_outcome: Outcome) -> bool:
        return not any((call.method, call.path) == (method, path) for call in stage.http.api_calls())

    return Check(f"{method} {path} has not reached the API", is_so)


def _prompts_hide(stage: Stage, text: str) -> Check:
    return Check(
        f"{text!r} has not reached the model",
        lambda _outcome: not any(text in str(call.body) for call in stage.http.model_calls()),
    )
