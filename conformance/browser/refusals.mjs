// A real Chromium's EventSource that is sent away: softly it comes back by itself and has missed
// nothing, after an error status or a 204 it never does.
//
//   node conformance/browser/refusals.mjs --gush target/debug/gush

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KEY, PATH, Hub, Report, mint, option, until } from '../lib/hub.mjs';
import { Cable } from '../lib/cable.mjs';
import { launch } from '../lib/chromium.mjs';

const ROOT = resolve(fileURLToPath(import.meta.url), '../../..');
const TOPIC = 'https://example.com/refusals';
const ENDED = 'https://example.com/ended';
const CLOSED = 2; // EventSource.CLOSED
const ENOUGH = 2 ** 40;
const SOFT = 'gush_requests_rejected_total{class="soft"}';
const FAILED = 'gush_requests_rejected_total{class="4xx"}';
const UNSERVED = 'gush_requests_rejected_total{class="5xx"}';
const STOPPED = 'gush_requests_rejected_total{class="stop"}';

const report = new Report();
const hub = new Hub(resolve(option('gush', join(ROOT, 'target/debug/gush'))));
const folder = mkdtempSync(join(tmpdir(), 'gush-refusals-'));
const file = join(folder, 'gush.toml');
const OPTIONS = ['--config', file, '--publisher-key', KEY, '--subscriber-key', KEY,
  '--drain-window', '40s', '--brownout-dwell', '250ms', '--brownout-turn', 'off',
  '--brownout-log', 'off'];
const DAY = 86_400;
let browser;
let published = 0;

const configure = (settings) => writeFileSync(file, Object.entries(settings)
  .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join(''));

const reconfigure = async (settings) => {
  configure(settings);
  await hub.reload();
};

const token = (seconds = DAY, sub = undefined) => mint({ subscribe: ['*'] }, KEY, seconds, sub);

/** Publishes some events where no limit of the public listener counts. */
const publish = async (count) => {
  const data = Array.from({ length: count }, () => `event ${published += 1}`);
  for (const text of data) {
    await hub.publish({ topic: TOPIC, data: text }, `${hub.admin}${PATH}`);
  }
  return data;
};

/** Somebody else's stream, open until it is let go of. */
const occupy = (bearer) => new Promise((opened, failed) => {
  const request = http.get(`${hub.url}?topic=x`, { headers: { Authorization: `Bearer ${bearer}` } });
  request.on('error', failed);
  request.on('response', (answer) => {
    answer.on('error', () => {});
    answer.resume();
    if (answer.statusCode === 200) opened(() => request.destroy());
    else failed(new Error(`a stream got ${answer.statusCode}`));
  });
});

/** An EventSource in a page of its own, behind a cable, and what it has been through. */
class Source {
  #page;
  #cable = new Cable();

  static async open(bearer, topic = TOPIC) {
    const source = new Source();
    const port = await source.#cable.lay(new URL(hub.url).port);
    const context = await browser.newContext();
    source.#page = await context.newPage();
    await source.#page.goto(`http://127.0.0.1:${port}/healthz`);
    await source.#page.evaluate(([path, topics, authorization]) => {
      const query = new URLSearchParams({ topic: topics, authorization });
      const seen = { opens: 0, errors: 0, data: [] };
      const events = new EventSource(`${path}?${query}`);
      events.onopen = () => { seen.opens += 1; };
      events.onerror = () => { seen.errors += 1; };
      events.onmessage = (event) => { seen.data.push(event.data); };
      window.look = () => ({ ...seen, state: events.readyState });
    }, [PATH, topic, bearer]);
    return source;
  }

  /** Its stream is open; a soft refusal looks the same for a moment. */
  async isOpen() {
    await until('the stream is open', async () => (await this.look()).opens > 0);
  }

  look() { return this.#page.evaluate(() => window.look()); }

  cut() { this.#cable.cut(); }

  async shows(data) {
    let seen;
    await until('the page has all events', async () => {
      seen = await this.look();
      return seen.data.length >= data.length;
    }).catch((error) => { throw new Error(`${error.message}: ${JSON.stringify(seen)}`); });
    if (JSON.stringify(seen.data) !== JSON.stringify(data)) {
      throw new Error(`not once and in order:\n${data}\n${seen.data}`);
    }
  }

  async isClosed() {
    await until('the EventSource gives up', async () => (await this.look()).state === CLOSED);
  }

  async close() {
    await this.#page.context().close();
    this.#cable.remove();
  }
}

/** Waits until a counter has grown by so many since `before`. */
const grows = (series, before, by) => until(`${series} grows by ${by}`,
  async () => await hub.metric(series) >= before + by);

const cases = [];
const add = (name, body) => cases.push({ name, body });

/**
 * A stream with two events is cut while newcomers are refused. The EventSource is sent away twice,
 * events go by, the reason ends, and it has them all.
 */
const comesBack = async (bearer, press, relieve) => {
  const source = await Source.open(bearer);
  await source.isOpen();
  const before = await publish(2);
  await source.shows(before);
  await press();
  const refused = await hub.metric(SOFT);
  source.cut();
  await grows(SOFT, refused, 1);
  const meanwhile = await publish(3);
  await grows(SOFT, refused, 2);
  const seen = await source.look();
  if (seen.state === CLOSED) throw new Error(`it gave up: ${JSON.stringify(seen)}`);
  if (seen.data.length !== 2) throw new Error(`a refusal was an event: ${seen.data}`);
  await relieve();
  await source.shows([...before, ...meanwhile]);
  await source.shows([...before, ...meanwhile, ...await publish(1)]);
  await source.close();
};

const atLimit = (name, limit, sub) => add(name, async () => {
  const leave = await occupy(token(DAY, sub));
  await comesBack(token(DAY, sub), () => hub.limit({ [limit]: 1 }), leave);
  await hub.limit({ [limit]: null });
});

atLimit('over the connection limit it comes back with nothing lost', 'max_connections');
atLimit('over the limit of its address too', 'max_connections_per_address');
atLimit("over the limit of its token's subject too", 'max_connections_per_subject', 'ada');

add('in a brownout it comes back with nothing lost', async () => {
  await comesBack(token(), async () => {
    const ratio = await until('a reading',
      () => hub.metric('gush_pressure_ratio{source="memory"}'));
    // The middle of the second step, which begins at 85 % and ends at 90 %.
    const budget = Math.round(ratio * 0.8 * ENOUGH / 0.875);
    await reconfigure({ memory_budget: `${budget}B` });
    await until('all new streams are refused',
      async () => await hub.metric('gush_brownout_step') >= 2);
  }, () => reconfigure({ memory_budget: `${ENOUGH}B` }));
});

add('in a drain it comes back, to the hub that follows, with nothing lost', async () => {
  const there = await Source.open(token());
  await there.isOpen();
  const before = await publish(2);
  await there.shows(before);
  const others = await Promise.all(Array.from({ length: 4 }, () => occupy(token())));
  const refused = await hub.metric(SOFT);
  // From now on nothing is taken in.
  hub.drain();
  const late = await Source.open(token());
  await grows(SOFT, refused, 1);
  const meanwhile = await publish(1);
  await hub.stop('SIGINT'); // and not a whole window later
  for (const leave of others) leave();
  await hub.start(...OPTIONS);
  const after = await publish(2);
  await there.shows([...before, ...meanwhile, ...after]);
  await until('the other one has a stream, too', async () => {
    const [text] = await publish(1);
    return (await late.look()).data.includes(text);
  });
  for (const source of [there, late]) {
    const { state } = await source.look();
    if (state === CLOSED) throw new Error('it gave up');
    await source.close();
  }
});

add('after a hard refusal, where they are wanted, it gives up', async () => {
  await reconfigure({ memory_budget: `${ENOUGH}B`, refusals: 'hard' });
  const source = await Source.open(token());
  await source.isOpen();
  await source.shows(await publish(1));
  const leave = await occupy(token());
  await hub.limit({ max_connections: 1 });
  const unserved = await hub.metric(UNSERVED);
  source.cut();
  await source.isClosed();
  if (await hub.metric(UNSERVED) !== unserved + 1) throw new Error('it asked more than once');
  leave();
  await hub.limit({ max_connections: null });
  await source.close();
  await reconfigure({ memory_budget: `${ENOUGH}B` });
});

add('when its token has expired a 401 stops it', async () => {
  const source = await Source.open(token(8));
  await source.isOpen();
  const failed = await hub.metric(FAILED);
  await source.isClosed();
  if (await hub.metric(FAILED) !== failed + 1) throw new Error('not one request with a 4xx');
  await source.close();
});

add('when its topic has ended a 204 stops it', async () => {
  const source = await Source.open(token(), ENDED);
  await source.isOpen();
  await reconfigure({ memory_budget: `${ENOUGH}B`, ended_topic: [ENDED] });
  const stopped = await hub.metric(STOPPED);
  source.cut();
  await source.isClosed();
  if (await hub.metric(STOPPED) !== stopped + 1) throw new Error('not one 204');
  await source.close();
});

const main = async () => {
  configure({ memory_budget: `${ENOUGH}B` });
  await hub.start(...OPTIONS);
  browser = await launch();
  try {
    for (const { name, body } of cases) await report.run(name, body);
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  }
};

await report.whole(main, hub, 5);
