// Serves one file's bytes for paths that end in /tar.gz/good, over HTTPS; 404 for the rest, and N for /status/N.
// Usage: https_server.js CERT KEY FILE. Prints its port.
'use strict';
const fs = require('fs');
const https = require('https');
const [cert, key, file] = process.argv.slice(2);
const server = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (request, response) => {
  const status = /\/status\/(\d+)/.exec(request.url);
  if (status) return response.writeHead(Number(status[1]), status[1] === '429' ? { 'retry-after': '7' } : {}).end('no');
  if (request.url.endsWith('/tar.gz/moved')) return response.writeHead(302, { location: request.url.replace('moved', 'good') }).end();
  if (request.url.endsWith('/tar.gz/plain')) return response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end();
  if (request.url.endsWith('/tar.gz/endless')) { response.writeHead(200); const more = () => { while (response.write(Buffer.alloc(1 << 20))); }; response.on('drain', more); return more(); }
  if (!request.url.endsWith('/o/r/tar.gz/good')) return response.writeHead(404).end('no');
  response.end(fs.readFileSync(file));
});
server.listen(0, '127.0.0.1', () => process.stdout.write(server.address().port + '\n'));
process.stdin.resume().on('end', () => process.exit(0));
