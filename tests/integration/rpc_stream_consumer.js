// A consumer of the old protocol, through the npm package rpc-stream: one connection for `next`,
// another for `result`. Usage: rpc_stream_consumer.js MODULE PORT JOBS. Ends after JOBS jobs.
'use strict';
const net = require('net');
const rpc = require(process.argv[2]);
const port = Number(process.argv[3]);
let left = Number(process.argv[4]);

const dial = () => {
  const client = rpc();
  const socket = net.connect(port, '127.0.0.1');
  client.pipe(socket).pipe(client);
  socket.setEncoding('utf8');
  return client;
};
const call = (client, name, args) =>
  new Promise((resolve, reject) =>
    client.rpc(name, args, (err, value) => (err ? reject(err) : resolve(value))));

const asks = dial();
const tells = dial();
let ids = 0;

const work = async (job) => {
  const mine = `${process.pid}-${ids++}`;
  const repo = `${job.owner}/${job.repo}`;
  const about = { run_id: mine, when: Date.now(), repo, commit: job.commit };
  const say = (stream, data) =>
    call(tells, 'result', [{ id: `${mine}-${ids++}`, ...about, stream, data }]);
  await say('events', { level: 'info', code: 'start', message: 'begins' });
  await say('stdout', 'out of ' + job.id);
  await say('stderr', 'err');
  await say('result', 'main;f 3\nmain;g 1\n');
  if (job.payload.fails) await say('events', { level: 'error', message: 'npm install failed' });
  for (const stream of ['stdout', 'stderr', 'events', 'result'])
    await say('control', { event: 'end', stream });
  return job.id;
};

const seen = [];
const ask = async () => {
  while (left > 0) {
    const job = await call(asks, 'next', []);
    if (left-- <= 0) return;
    seen.push(await work(job));
    if (left === 0) {
      process.stdout.write(JSON.stringify(seen) + '\n');
      process.exit(0);
    }
  }
};
ask().catch((e) => {
  process.stderr.write(JSON.stringify({ message: e.message, code: e.code }) + '\n');
  process.exit(1);
});
