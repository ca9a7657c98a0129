// oidc-provider on a free loopback port, in the variant that the first argument names, with a door
// for the tests under /-/. Prints one line of JSON when it is ready.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';

import { Provider } from 'oidc-provider';

const LIFETIME = 3600;
const variant = process.argv[2];
const prefix = variant === 'issuer with a path' ? '/tenants/shop' : '';

const stored = new Map();

class Memory {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model} ${id}`; }
  async upsert(id, payload) { stored.set(this.key(id), payload); }
  async find(id) { return stored.get(this.key(id)); }
  async findByUid(uid) {
    return [...stored.values()].find((payload) => payload.uid === uid);
  }
  async consume(id) { stored.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { stored.delete(this.key(id)); }
  async revokeByGrantId(grantId) {
    for (const [key, payload] of stored) if (payload.grantId === grantId) stored.delete(key);
  }
}

const features = {
  registration: { enabled: true },
  registrationManagement: { enabled: variant !== 'management off' },
  clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
};
const policies = [];
if (variant === 'initial access token' || variant === 'secret lifetime') {
  features.registration.initialAccessToken = true;
}
if (variant === 'secret lifetime') {
  features.registration.policies = {
    lifetime(ctx, properties) {
      properties.client_secret_expires_at = Math.floor(Date.now() / 1000) + LIFETIME;
    },
  };
  policies.push('lifetime');
}

// The library refuses to fetch from addresses of this machine, where the clients of the tests are.
function reach(url, { dispatcher, ...options }) {
  return fetch(url, options);
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const origin = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(`${origin}${prefix}`, { adapter: Memory, features, fetch: reach });
  const callback = provider.callback();
  server.on('request', async (request, response) => {
    if (request.url.startsWith('/-/')) {
      await control(provider, request, response);
    } else if (request.url.startsWith(`${prefix}/`)) {
      // As a router does that mounts it there.
      request.originalUrl = request.url;
      request.url = request.url.slice(prefix.length);
      callback(request, response);
    } else {
      response.writeHead(404).end();
    }
  });
  const { version } = JSON.parse(readFileSync('node_modules/oidc-provider/package.json'));
  console.log(JSON.stringify({ version, issuer: `${origin}${prefix}` }));
});

async function pass(provider, id, seconds) {
  const keys = (await provider.Client.find(id)).asymmetricKeyStore;
  keys.freshUntil -= Number(seconds);
}

async function control(provider, request, response) {
  const url = new URL(request.url, 'http://127.0.0.1');
  const [, , kind, id] = url.pathname.split('/');
  let status = 200;
  let body = {};
  if (kind === 'initial-access-tokens' && features.registration.initialAccessToken) {
    const settings = policies.length ? { policies } : {};
    body = { token: await new provider.InitialAccessToken(settings).save() };
  } else if (kind === 'clients' && stored.has(`Client ${id}`)) {
    const client = stored.get(`Client ${id}`);
    if (request.method === 'DELETE') stored.delete(`Client ${id}`);
    else if (request.method === 'PATCH') client.client_secret_expires_at = 1;
    // The keys that it has fetched are as old as if this time had passed.
    else if (request.method === 'POST') await pass(provider, id, url.searchParams.get('seconds'));
    else body = { client_name: client.client_name };
  } else {
    status = 404;
  }
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}
