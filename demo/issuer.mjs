// The issuer of the demo and of the tests: the certified OpenID provider `oidc-provider`, over TLS on loopback.
// Started by demo/issuer.py:  node issuer.mjs NODE_MODULES SETTINGS
// SETTINGS is a JSON file: {issuer, port, certificate, key, keys: [JWK], audience, clients: [{id, secret, algorithm,
// seconds, claims}]}; a client without a secret is a person's device (RFC 8628). On SIGHUP the file is read again: that
// is how keys are rotated. Each time settings are in use it says "serving N". It keeps everything in memory.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const [modules, settingsFile] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(path.join(modules, 'oidc-provider', 'lib', 'index.js')));

// Resources have to be absolute URIs; what stands in a token's `aud` is another matter.
const RESOURCE = 'urn:proxyd:gateway';

function provider(settings) {
  const byId = new Map(settings.clients.map((client) => [client.id, client]));
  const made = new Provider(settings.issuer, {
    jwks: { keys: settings.keys },
    clients: settings.clients.map((client) => ({
      client_id: client.id,
      ...(client.secret
        ? { client_secret: client.secret }
        : { token_endpoint_auth_method: 'none', application_type: 'native' }),
      grant_types: [
        ...(client.secret ? ['client_credentials'] : []),
        ...(client.secret ? [] : ['urn:ietf:params:oauth:grant-type:device_code']),
      ],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: client.algorithm,
    })),
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    scopes: ['openid', 'email', 'groups'],
    conformIdTokenClaims: false,
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'] },
    ttl: { ClientCredentials: (ctx, token, client) => byId.get(client.clientId).seconds },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, indicator, client) => ({
          scope: 'openid email groups',
          audience: settings.audience,
          accessTokenFormat: 'jwt',
          accessTokenTTL: byId.get(client.clientId).seconds,
          jwt: { sign: { alg: byId.get(client.clientId).algorithm } },
        }),
      },
    },
    extraTokenClaims: (ctx, token) => byId.get(token.clientId).claims,
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    cookies: { keys: ['demo'] },
  });
  made.on('server_error', (ctx, error) => console.error(error));
  return made.callback();
}

let served = 0;
let handle;
function read() {
  handle = provider(JSON.parse(readFileSync(settingsFile, 'utf8')));
  served += 1;
}
function say() {
  console.log(`serving ${served}`);
}

read();
const settings = JSON.parse(readFileSync(settingsFile, 'utf8'));
const server = createServer(
  { cert: readFileSync(settings.certificate), key: readFileSync(settings.key) },
  (request, response) => handle(request, response),
);
server.listen(settings.port, '127.0.0.1', say);
process.on('SIGHUP', () => {
  read();
  say();
});
process.on('SIGTERM', () => process.exit(0));
