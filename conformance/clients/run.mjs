// Real subscribers against the real hub. Each is cut off in three ways while somebody publishes:
// the hub drains and restarts, the hub is killed and restarts, the hub ends the streams itself.
// Nothing may be lost, doubled or out of order, by the subscriber's own means where it keeps the id,
// and where it ends by handing it the last id it told.
//
//   node conformance/clients/run.mjs --gush target/debug/gush [--python target/venv/bin/python]

import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Hub, KEY, Report, mint, option, until } from '../lib/hub.mjs';
import { launch } from '../lib/chromium.mjs';
import { BrowserSubscriber, everySubscriber } from './subscriber.mjs';

const ROOT = resolve(fileURLToPath(import.meta.url), '../../..');
const PYTHON = resolve(option('python', join(ROOT, 'target/venv/bin/python')));
const TOPIC = 'https://example.com/counter/7';
const MATCHER = 'https://example.com/counter/{n}';
const OPTIONS = ['--publisher-key', KEY, '--subscriber-key', KEY, '--retry', '300ms',
  '--drain-window', '1s'];
const LIFE = ['--max-stream-life', '2s'];
const PACE_MS = 15;
const BETWEEN = 20; // events published at least before a cut and after it
const CLOSES = 2; // ends by the hub that each subscriber must live through in the last round

const report = new Report();
const hub = new Hub(resolve(option('gush', join(ROOT, 'target/debug/gush'))));

// ── The publisher: numbers, one after the other, whether the hub is there or not ────────────────

const acked = []; // {n, id, type, data}: the hub has answered for it
const maybe = new Set(); // numbers whose publish broke off: stored or not, both are right
let counting = true;

const publishOne = async (n) => {
  // Two lines, a letter of two bytes, and U+2028, at which no stream may be split.
  const data = `${n}\nzweite Zeile, größer\u2028 und weiter`;
  const type = n % 3 === 0 ? 'tick' : 'message';
  const fields = { topic: TOPIC, data };
  if (type === 'tick') fields.type = type;
  if (n % 4 === 0) fields.private = 'on';
  try {
    acked.push({ n, id: await hub.publish(fields), type, data });
  } catch {
    maybe.add(n);
  }
};

const count = async () => {
  for (let n = 1; counting; n += 1) {
    await publishOne(n);
    await new Promise((done) => { setTimeout(done, PACE_MS); });
  }
};

const published = (more) => {
  const target = acked.length + more;
  return until(`${more} more events are published`, () => acked.length >= target);
};

// ── What a subscriber should have ───────────────────────────────────────────────────────────────

const number = (event) => Number.parseInt(event.data, 10);

const faults = ({ events }) => {
  const found = [];
  const numbers = events.map(number);
  const seen = new Set(numbers);
  const last = numbers.at(-1) ?? 0;
  const lost = acked.filter(({ n }) => n <= last && !seen.has(n)).map(({ n }) => n);
  const doubled = numbers.filter((n, at) => numbers.indexOf(n) !== at);
  const behind = numbers.filter((n, at) => at > 0 && n < numbers[at - 1]);
  if (lost.length) found.push(`lost: ${lost}`);
  if (doubled.length) found.push(`doubled: ${doubled}`);
  else if (behind.length) found.push(`out of order: ${behind}`);
  const byNumber = new Map(acked.map((one) => [one.n, one]));
  const changed = events.find((event) => {
    const sent = byNumber.get(number(event));
    return sent && (sent.id !== event.id || sent.type !== event.type || sent.data !== event.data);
  });
  if (changed) {
    found.push(`changed: sent ${JSON.stringify(byNumber.get(number(changed)))}, `
      + `received ${JSON.stringify(changed)}`);
  }
  return found;
};

const told = (one) => `${one.opens} opens, ${one.retries} retries, ends: ${
  one.ends.map(({ end, detail }) => (detail ? `${end} (${detail})` : end)).join(', ') || 'none'}`;

/** Every subscriber has the event `n`, or the list says who has not. */
const allHave = async (subscribers, n) => {
  const has = (one) => one.events.length > 0 && number(one.events.at(-1)) >= n;
  try {
    await until('all have caught up', () => subscribers.every(has));
  } catch { /* each is judged on its own below */ }
  return subscribers.filter((one) => !has(one));
};

// ── The rounds ──────────────────────────────────────────────────────────────────────────────────

const ROUNDS = [
  { cut: 'drain', name: 'hub drained and restarted', async run() {
    const status = await hub.stop('SIGTERM');
    if (status !== 0) report.notOk('the drained hub exits with 0', `it ended with ${status}`);
    await hub.start(...OPTIONS);
  } },
  { cut: 'kill', name: 'hub killed and restarted', async run() {
    await hub.stop('SIGKILL');
    await hub.start(...OPTIONS);
  } },
  { cut: 'life', name: `streams ended by the hub, ${CLOSES} times`, async run(subscribers) {
    await hub.stop('SIGKILL');
    await hub.start(...OPTIONS, ...LIFE);
    const opens = new Map(subscribers.map((one) => [one, one.opens]));
    await until(`everyone is cut ${CLOSES} times`, () => subscribers
      .every((one) => one.opens - opens.get(one) > CLOSES)).catch(() => {});
  } },
];

/** Complaints about how the program behaved at the cut itself. */
const endFaults = (one, cut, ends) => {
  const gaveUp = ends.find(({ end }) => end === 'gave up' || end === 'crashed');
  if (gaveUp) return [`${gaveUp.end}: ${gaveUp.detail}`];
  const expected = one.endsOn[cut] ?? '';
  if (expected === '') {
    return ends.length ? [`ended, though it should reconnect: ${told(one)}`] : [];
  }
  // The hub was killed before it closed streams itself: that end is not this round's.
  const matter = cut === 'life' ? ends.slice(1) : ends;
  if (matter[0]?.end !== expected) {
    return [`expected a ${expected} end, got ${JSON.stringify(matter)}`];
  }
  return [];
};

const round = async ({ cut, name, run }, subscribers) => {
  await published(BETWEEN);
  const before = new Map(subscribers.map((one) => [one, one.ends.length]));
  const opens = new Map(subscribers.map((one) => [one, one.opens]));
  await run(subscribers);
  await published(BETWEEN);
  const behind = await allHave(subscribers, acked.at(-1).n);
  for (const one of subscribers) {
    const complaints = [...endFaults(one, cut, one.ends.slice(before.get(one))), ...faults(one)];
    if (one.opens <= opens.get(one)) complaints.push('it was never connected again');
    if (behind.includes(one)) complaints.push(`it has not caught up: ${told(one)}`);
    const how = one.endsOn[cut] ? 'id passed by hand' : 'by itself';
    report.check(`${one.name}: ${name}, ${how}, nothing lost or doubled`, complaints);
  }
};

const rounds = async (browser) => {
  const subscribers = [new BrowserSubscriber(browser, hub.admin), ...everySubscriber(PYTHON)];
  const url = `${hub.url}?topic=${encodeURIComponent(MATCHER)}`;
  const token = mint({ subscribe: [MATCHER] });
  await Promise.all(subscribers.map((one) => one.run(url, token)));
  try {
    await until('all are connected', () => subscribers.every((one) => one.opens > 0))
      .catch((error) => {
        const missing = subscribers.filter((one) => one.opens === 0)
          .map((one) => `${one.name}: ${told(one)}`);
        throw new Error(`${error.message}\n${missing.join('\n')}`);
      });
    const publishing = count();
    for (const one of ROUNDS) await round(one, subscribers);
    counting = false;
    await publishing;
    await allHave(subscribers, acked.at(-1).n);
    for (const one of subscribers) {
      const complaints = faults(one);
      const [first] = one.events;
      if (number(first) !== 1) complaints.push(`the first event was ${number(first)}`);
      report.check(`${one.name}: all ${acked.length} events`, complaints);
    }
  } finally {
    counting = false;
    subscribers.forEach((one) => one.stop());
  }
};

/** The bytes symfony/mercure sends, from a program that needs no PHP; its lines join ours. */
const symfony = async () => {
  await hub.stop('SIGKILL');
  await hub.start(...OPTIONS);
  const child = spawn(PYTHON, [join(ROOT, 'conformance/clients/symfony.py'), hub.url, KEY],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text) => { out += text; });
  child.on('error', (error) => { out += `not ok  symfony.py\n        ${error}\n`; });
  await until('symfony.py ends', () => child.exitCode !== null || child.pid === undefined);
  const sum = /^(\d+) passed, (\d+) failed$/m.exec(out);
  process.stdout.write(sum ? out.slice(0, sum.index) : out);
  if (!sum) { report.notOk('symfony.py', 'it did not come to its end'); return; }
  report.passed += Number(sum[1]);
  report.failed += Number(sum[2]);
};

const watchdog = setTimeout(() => {
  report.notOk('the whole run', 'over 4 minutes');
  report.end();
  process.exit();
}, 240_000);

let browser;
try {
  await hub.start(...OPTIONS);
  browser = await launch();
  await rounds(browser);
  await symfony();
} catch (error) {
  report.notOk('the run', `${error.stack}\n${hub.stderr}`);
} finally {
  counting = false;
  await browser?.close();
  hub.remove();
}
clearTimeout(watchdog);
report.end();
