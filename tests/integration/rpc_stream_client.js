// An independent client: pushes through the npm package rpc-stream, the protocol's origin.
// Usage: rpc_stream_client.js MODULE PORT SOURCE. Prints one JSON object of what it saw.
'use strict';
const net = require('net');
const rpc = require(process.argv[2]);
const port = Number(process.argv[3]);
const source = process.argv[4];
const sha = (n) => n.toString(16).padStart(40, '0');

const client = rpc();
const socket = net.connect(port, '127.0.0.1');
client.pipe(socket).pipe(client);
socket.setEncoding('utf8');

const call = (name, args) =>
    new Promise((resolve) => client.rpc(name, args, (err, value) => resolve({ err, value })));

(async () => {
  const seen = { pushed: 0, duplicates: 0, errors: {} };
  const push = (_, i) => call('push', ['o', 'r', sha(i % 50), { key: 'k' + (i % 50), source }]);
  const many = await Promise.all(Array.from({ length: 100 }, push));
  for (const { err, value } of many) {
    if (err) seen.errors[err.code || err.message] = (seen.errors[err.code || err.message] || 0) + 1;
    else if (value.duplicate) seen.duplicates++;
    else seen.pushed++;
  }
  const bad = await call('push', ['o', 'r', 'not a sha']);
  seen.bad =
      bad.err && { code: bad.err.code, field: bad.err.field, isError: bad.err instanceof Error };
  const unknown = await call('nope', []);
  seen.unknown = unknown.err && unknown.err.code;
  const payload = { after: sha(7), repository: { name: 'r', owner: { name: 'o' } }, uuid: 'w1' };
  await call('push', [payload]);
  seen.webhook = (await call('push', [payload])).value;
  const other = await call('push', ['o', 'r', sha(99), { key: 'k1', source }]);
  seen.other = other.err && other.err.code;
  process.stdout.write(JSON.stringify(seen) + '\n');
  process.exit(0);
})();
