"""The OpenID Connect relying party: tokens of configured issuers, verified and made into subjects.

`verifier` is what the doors call (`gateway.tokens`), `factors` binds a token to a certificate. Below them: `token`
(taking a token apart, its signature), `claims` (audience, times, name, groups), `issuer_keys` (keys kept fresh),
`documents` (fetching them), `jwks` and `json_text` (reading them), `refusal` (why a token does not count).
"""

from proxyd.identity.oidc.factors import both_factors
from proxyd.identity.oidc.refusal import TokenRefused
from proxyd.identity.oidc.verifier import Tokens

__all__ = ["TokenRefused", "Tokens", "both_factors"]
