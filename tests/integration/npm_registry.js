// A registry with one package, tiny 1.0.0, over HTTP. Usage: npm_registry.js PORT TARBALL. Prints
// its port. While there is a file TARBALL.busy, it answers 503.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const [port, file] = process.argv.slice(2);
const tarball = fs.readFileSync(file);
const integrity = 'sha512-' + crypto.createHash('sha512').update(tarball).digest('base64');
const server = http.createServer((request, response) => {
  if (fs.existsSync(file + '.busy')) return response.writeHead(503).end();
  if (request.url.endsWith('/tiny.tgz')) return response.end(tarball);
  if (request.url !== '/tiny') return response.writeHead(404).end('{}');
  const dist = { tarball: `http://localhost:${port}/tiny.tgz`, integrity };
  const versions = { '1.0.0': { name: 'tiny', version: '1.0.0', dist } };
  response.end(JSON.stringify({ name: 'tiny', 'dist-tags': { latest: '1.0.0' }, versions }));
});
server.listen(Number(port), 'localhost', () => process.stdout.write(port + '\n'));
process.stdin.resume().on('end', () => process.exit(0));
