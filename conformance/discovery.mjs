// The programs of examples/discovery against the real hub: node discovery.mjs --gush PATH
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { Hub, KEY, mint } from './lib/hub.mjs';

const { values } = parseArgs({ options: { gush: { type: 'string' } } });
const folder = new URL('../examples/discovery/', import.meta.url).pathname;
const children = [];

const run = (file, ...args) => {
  const child = spawn(process.execPath, [folder + file, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  return createInterface({ input: child.stdout })[Symbol.asyncIterator]();
};

const watchdog = setTimeout(() => {
  console.log('not ok - nothing within a minute\n0 passed, 1 failed');
  process.exit(1);
}, 60_000);
const hub = new Hub(resolve(values.gush));
const problems = [];
try {
  await hub.start('--anonymous', '--publisher-key', KEY);
  const app = run('app.mjs', hub.url, mint({ publish: ['*'] }));
  const resource = (await app.next()).value;
  const put = (stock) => fetch(resource, { method: 'PUT', body: JSON.stringify({ stock }) });
  await put(2);
  const follow = run('follow.mjs', resource);
  const lines = [(await follow.next()).value];
  // Between the answer and the subscribe: the cursor of the link closes the gap.
  for (const stock of [3, 4]) {
    await put(stock);
    lines.push((await follow.next()).value);
  }
  const expected = [2, 3, 4].map((stock) => JSON.stringify({ stock }));
  if (JSON.stringify(lines) !== JSON.stringify(expected)) {
    problems.push(`expected ${expected}, got ${lines}`);
  }
} catch (error) {
  problems.push(String(error));
} finally {
  clearTimeout(watchdog);
  children.forEach((child) => child.kill());
  await hub.stop('SIGKILL');
}
problems.forEach((problem) => console.log(`not ok - ${problem}`));
if (problems.length === 0) console.log('ok - a resource names its hub, topic and cursor');
console.log(`${problems.length ? 0 : 1} passed, ${problems.length ? 1 : 0} failed`);
process.exitCode = problems.length ? 1 : 0;
