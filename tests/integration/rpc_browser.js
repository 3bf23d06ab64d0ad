// A page in headless Chromium that tries to have a JSON port obey it, by each way in which a page
// can send bytes. Usage: rpc_browser.js WEBHOOK_PORT PORT…. Prints one JSON object: by JSON port,
// how each attempt ended.
'use strict';
const http = require('http');
const { chromium } = require('playwright-core');

// Runs in the page. An attempt that tells the page nothing of its end is given three seconds.
async function attack(port) {
  const line = '["drain",[],1]\n';
  const url = 'http://127.0.0.1:' + port + '/';
  const ended = (start) => Promise.race([
    new Promise((done) => start((how) => done(how))),
    new Promise((done) => setTimeout(() => done('no end'), 3000)),
  ]);
  const fetched = (to, options) => fetch(to, options).then(() => 'answered', () => 'failed');
  const text = {
    mode: 'no-cors',
    method: 'POST',
    headers: { 'Content-Type': 'text/plain' },
    body: line
  };
  const socket = (to, protocols) => ended((done) => {
    const s = new WebSocket(to, protocols);
    s.onopen = () => { s.send(line); done('open'); };
    s.onerror = () => done('failed');
  });
  const seen = {};
  seen.fetch = await fetched(url, text);
  seen.fetch_many_lines = await fetched(url, { ...text, body: '\n'.repeat(100) + line.repeat(10) });
  seen.fetch_own_method = await fetched(url, { method: 'DRAIN', body: line });
  seen.fetch_tls = await fetched('https://127.0.0.1:' + port + '/', text);
  seen.fetch_path = await fetched(url + '?' + line, { mode: 'no-cors' });
  seen.fetch_keepalive = await fetched(url, { ...text, keepalive: true });
  seen.xhr = await ended((done) => {
    const x = new XMLHttpRequest();
    x.open('POST', url);
    x.setRequestHeader('Content-Type', 'text/plain');
    x.onloadend = () => done(x.status === 0 ? 'failed' : 'answered');
    x.send(line);
  });
  seen.form = await ended((done) => {
    const frame = document.createElement('iframe');
    frame.name = 'to' + port;
    document.body.append(frame);
    const form = document.createElement('form');
    Object.assign(form, { action: url, method: 'post', enctype: 'text/plain', target: frame.name });
    const field = document.createElement('input');
    // The body is NAME=VALUE: a request whose id is "=".
    Object.assign(field, { name: '["drain",[],"', value: '"]' });
    form.append(field);
    document.body.append(form);
    frame.onload = () => done('ended');
    form.submit();
  });
  navigator.sendBeacon(url, line);
  seen.image = await ended((done) => {
    const image = new Image();
    image.onload = () => done('answered');
    image.onerror = () => done('failed');
    image.src = url;
  });
  seen.events = await ended((done) => {
    const events = new EventSource(url);
    events.onerror = () => { events.close(); done('failed'); };
  });
  seen.socket = await socket('ws://127.0.0.1:' + port + '/', ['drain']);
  seen.socket_tls = await socket('wss://127.0.0.1:' + port + '/');
  seen.turn = await ended((done) => {
    const c = new RTCPeerConnection({
      iceServers: [
        { urls: 'turn:127.0.0.1:' + port + '?transport=tcp', username: line, credential: line }
      ]
    });
    c.createDataChannel('x');
    c.onicegatheringstatechange = () => {
      if (c.iceGatheringState === 'complete') {
        c.close();
        done('ended');
      }
    };
    c.createOffer().then((offer) => c.setLocalDescription(offer));
  });
  return seen;
}

// Runs in the page: a push by each way in which a page can send a POST without being asked first.
async function push(port) {
  const url = 'http://127.0.0.1:' + port + '/github';
  const payload = JSON.stringify(
      { after: 'a'.repeat(40), repository: { name: 'r', owner: { name: 'o' } } });
  const form = 'payload=' + encodeURIComponent(payload);
  const type = { 'Content-Type': 'application/x-www-form-urlencoded' };
  await fetch(url, { mode: 'no-cors', method: 'POST', body: payload }).catch(() => {});
  await fetch(url, { mode: 'no-cors', method: 'POST', headers: type, body: form }).catch(() => {});
  navigator.sendBeacon(url, payload);
  for (const enctype of ['application/x-www-form-urlencoded', 'text/plain']) {
    const frame = document.createElement('iframe');
    frame.name = enctype;
    document.body.append(frame);
    const element = document.createElement('form');
    Object.assign(element, { action: url, method: 'post', enctype, target: frame.name });
    const field = document.createElement('input');
    // As text/plain NAME=VALUE is the body: JSON with one member more.
    if (enctype === 'text/plain')
      Object.assign(field, { name: payload.slice(0, -1) + ',"x":"', value: '"}' });
    else Object.assign(field, { name: 'payload', value: payload });
    element.append(field);
    document.body.append(element);
    const ended = new Promise((done) => { frame.onload = done; setTimeout(done, 3000); });
    element.submit();
    await ended;
  }
}

(async () => {
  const site = http.createServer(
      (request, response) => response.end('<!doctype html><title>a page</title>'));
  await new Promise((done) => site.listen(0, '127.0.0.1', done));
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'
    ],
  });
  const [webhook, ...ports] = process.argv.slice(2);
  const in_page = async (what, port) => {
    const page = await browser.newPage();
    await page.goto('http://127.0.0.1:' + site.address().port + '/');
    const out = await page.evaluate(what, Number(port));
    await page.close();
    return out;
  };
  const seen = {};
  for (const port of ports) seen[port] = await in_page(attack, port);
  await in_page(push, webhook);
  await browser.close();
  site.close();
  process.stdout.write(JSON.stringify(seen) + '\n');
})().catch((e) => {
  process.stderr.write(String(e.stack || e) + '\n');
  process.exit(1);
});
