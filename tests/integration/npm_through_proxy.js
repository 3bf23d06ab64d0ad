// A registry over plain HTTP with two packages, and the machine's own npm that installs them
// through a proxy. Usage: npm_through_proxy.js REGISTRY_PORT PROXY_PORT FOLDER. Prints one JSON
// object: npm's end, and what the registry was asked.
'use strict';
const { execFileSync, spawn } = require('child_process');
const fs = require('fs');
const http = require('http');
const path = require('path');

const [port, proxy, folder] = process.argv.slice(2);
const at = 'http://localhost:' + port;
const dependencies = { first: { second: '1.0.0' }, second: {} };

for (const name of Object.keys(dependencies)) {
  const made = path.join(folder, name, 'package');
  fs.mkdirSync(made, { recursive: true });
  fs.writeFileSync(
      path.join(made, 'package.json'),
      JSON.stringify({ name, version: '1.0.0', dependencies: dependencies[name] }));
  fs.writeFileSync(path.join(made, 'filling'), require('crypto').randomBytes(300000));
  execFileSync(
      'tar',
      ['-czf', path.join(folder, name + '.tgz'), '-C', path.join(folder, name), 'package']);
}

const asked = [];
const registry = http.createServer((request, response) => {
  asked.push(request.method + ' ' + request.url);
  const name = request.url.split('/')[1];
  const length = { bytes: 0 };
  request.on('data', (d) => { length.bytes += d.length; });
  request.on('end', () => {
    if (request.method === 'POST') return response.end(length.bytes > 0 ? '{}' : 'no body');
    if (request.url.endsWith('.tgz'))
      return fs.createReadStream(path.join(folder, name + '.tgz')).pipe(response);
    const version = {
      name,
      version: '1.0.0',
      dependencies: dependencies[name],
      dist: { tarball: at + '/' + name + '/-/' + name + '-1.0.0.tgz' }
    };
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(
        { name, 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version } }));
  });
});

registry.listen(Number(port), '127.0.0.1', () => {
  const project = path.join(folder, 'project');
  fs.mkdirSync(project);
  fs.writeFileSync(
      path.join(project, 'package.json'),
      JSON.stringify({ name: 'project', version: '1.0.0', dependencies: { first: '1.0.0' } }));
  const npm = spawn(
      'npm',
      [
        'install', '--registry', at + '/', '--proxy', 'http://127.0.0.1:' + proxy, '--noproxy', '',
        '--cache', path.join(folder, 'cache'), '--fetch-retries', '0', '--no-update-notifier'
      ],
      { cwd: project, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  npm.stdout.on('data', (d) => { said += d; });
  npm.stderr.on('data', (d) => { said += d; });
  npm.on('close', (code) => {
    const filling = (name) => {
      const file = path.join(project, 'node_modules', name, 'filling');
      return fs.existsSync(file) ? fs.statSync(file).size : 0;
    };
    const end = { code, said, asked, first: filling('first'), second: filling('second') };
    process.stdout.write(JSON.stringify(end) + '\n', () => process.exit(0));
  });
});
