// oauth4webapi's registration, with two sealed values of each client stored in SQLite.

import * as oauth from "oauth4webapi";
import Database from "better-sqlite3";
import { createCipheriv, createHmac, randomBytes } from "node:crypto";
import { createInterface } from "node:readline";

const IN_FLIGHT = 16;
const WISHES = {
  client_name: "Benchmark",
  redirect_uris: ["https://site.example/callback"],
  grant_types: ["authorization_code"],
  response_types: ["code"],
  token_endpoint_auth_method: "client_secret_basic",
};
const [server, folder] = process.argv.slice(2);
const options = { [oauth.allowInsecureRequests]: true, algorithm: "oauth2" };

const database = new Database(`${folder}/oauth4webapi.sqlite3`);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = NORMAL");
database.exec(
  "CREATE TABLE client (id INTEGER PRIMARY KEY, client_id TEXT UNIQUE," +
    " secret TEXT, token TEXT, metadata TEXT)",
);
const insert = database.prepare(
  "INSERT INTO client (client_id, secret, token, metadata) VALUES (?, ?, ?, ?)",
);
const encryptionKey = randomBytes(16);
const signingKey = randomBytes(16);

// As Fernet does: AES-128 in CBC mode, and HMAC-SHA256 over all of it.
function seal(value) {
  const head = Buffer.alloc(25);
  head[0] = 0x80;
  head.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 1000)), 1);
  const iv = randomBytes(16);
  iv.copy(head, 9);
  const cipher = createCipheriv("aes-128-cbc", encryptionKey, iv);
  const sealed = Buffer.concat([head, cipher.update(value), cipher.final()]);
  const mark = createHmac("sha256", signingKey).update(sealed).digest();
  return Buffer.concat([sealed, mark]).toString("base64url");
}

async function discover(issuer) {
  const response = await oauth.discoveryRequest(new URL(issuer), options);
  return oauth.processDiscoveryResponse(new URL(issuer), response);
}

async function register(metadata) {
  const response = await oauth.dynamicClientRegistrationRequest(metadata, WISHES, options);
  const issued = await oauth.processDynamicClientRegistrationResponse(response);
  const { client_id, client_secret, registration_access_token } = issued;
  insert.run(client_id, seal(client_secret), seal(registration_access_token), JSON.stringify(issued));
}

async function inFlight(count, act, limit) {
  let left = count;
  const work = async () => {
    while (left-- > 0) await act();
  };
  await Promise.all(Array.from({ length: limit }, work));
}

const workloads = {
  register: [server, 1],
  "register at once": [`${server}/slow`, IN_FLIGHT],
};

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [name, count] = JSON.parse(line);
  const [issuer, limit] = workloads[name];
  // Its discovery takes an issuer with a final slash only.
  const metadata = await discover(issuer);
  const started = process.hrtime.bigint();
  await inFlight(count, () => register(metadata), limit);
  console.log(`${process.hrtime.bigint() - started}`);
}
