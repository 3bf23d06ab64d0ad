// Serves one file's bytes for paths that end in /tar.gz/good, over HTTPS; 404 for the rest, and N
// for /status/N. Usage: https_server.js CERT KEY FILE. Prints its port.
'use strict';
const fs = require('fs');
const https = require('https');
const [cert, key, file] = process.argv.slice(2);
const identity = { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
const server = https.createServer(identity, (request, response) => {
  const status = /\/status\/(\d+)/.exec(request.url);
  const ends = (tail) => request.url.endsWith(tail);
  const moved = (location) => response.writeHead(302, { location }).end();
  if (status) {
    const headers = status[1] === '429' ? { 'retry-after': '7' } : {};
    return response.writeHead(Number(status[1]), headers).end('no');
  }
  if (ends('/tar.gz/moved')) return moved(request.url.replace('moved', 'good'));
  if (ends('/tar.gz/plain')) return moved('http://127.0.0.1:1/');
  if (ends('/tar.gz/endless')) {
    response.writeHead(200);
    const more = () => { while (response.write(Buffer.alloc(1 << 20))); };
    response.on('drain', more);
    return more();
  }
  if (!ends('/o/r/tar.gz/good')) return response.writeHead(404).end('no');
  response.end(fs.readFileSync(file));
});
server.listen(0, '127.0.0.1', () => process.stdout.write(server.address().port + '\n'));
process.stdin.resume().on('end', () => process.exit(0));
