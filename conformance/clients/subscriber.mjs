// One real subscriber under watch: a program started again with its last id when it ends, or an
// EventSource in Chromium.

import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PATH } from '../lib/hub.mjs';

const HERE = join(dirname(fileURLToPath(import.meta.url)), 'subscribers');
// What a loop around `curl` would wait.
const AGAIN_MS = 300;

/** What one subscriber has told so far. */
export class Subscriber {
  events = []; // {id, type, data} in the order of arrival
  ends = []; // {end, detail}: where the program ended or gave up
  opens = 0;
  retries = 0;
  lastId = '';
  #stopped = false;
  #process = null;

  /**
   * `ends` says on which cuts the program ends by itself, and how: {drain, kill, life}, each
   * 'clean', 'broken' or '' for "goes on by itself, and keeps the id".
   */
  constructor(name, { command, ends = {}, parse, page }) {
    Object.assign(this, { name, command, endsOn: ends, parse, page });
  }

  heard(what) {
    if (what.open) this.opens += 1;
    if (what.retrying !== undefined) this.retries += 1;
    if (what.end) this.ends.push(what);
    if (what.data === undefined) return;
    this.events.push(what);
    if (what.id) this.lastId = what.id;
  }

  /** Starts the program; each time it ends it is started again with the last id it has printed. */
  run(url, token) {
    const [program, ...args] = this.command({ url, token, cursor: this.lastId });
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: HERE });
    this.#process = child;
    const parse = (this.parse ?? jsonLines)((what) => this.heard(what));
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', parse);
    child.stderr.on('data', (bytes) => { stderr = (stderr + bytes).slice(-2000); });
    child.on('error', (error) => { stderr += error; });
    child.on('close', (status) => {
      if (this.#stopped) return;
      if (this.exits) this.ends.push(this.exits(status));
      else if (status !== 0) this.ends.push({ end: 'crashed', detail: `${status}: ${stderr}` });
      if (this.ends.length > 200) return; // something is wrong, and the deadline will say so
      setTimeout(() => { if (!this.#stopped) this.run(url, token); }, AGAIN_MS);
    });
  }

  stop() {
    this.#stopped = true;
    this.#process?.kill();
  }
}

const jsonLines = (heard) => {
  let rest = '';
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) heard(JSON.parse(line));
  };
};

/** Reads what `curl -i` prints: a response head, then the stream as it is on the wire. */
const curlOutput = (heard) => {
  let rest = '';
  let head = true;
  return (text) => {
    rest += text;
    for (;;) {
      const end = rest.indexOf(head ? '\r\n\r\n' : '\n\n');
      if (end < 0) return;
      const block = rest.slice(0, end);
      rest = rest.slice(end + (head ? 4 : 2));
      if (head && block.startsWith('HTTP/1.1 200')) heard({ open: true });
      if (!head) curlBlock(block, heard);
      head = false;
    }
  };
};

const curlBlock = (block, heard) => {
  const event = { id: '', type: 'message', data: undefined };
  for (const line of block.split('\n')) {
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === 'id') event.id = value;
    if (field === 'event') event.type = value;
    if (field === 'data') event.data = event.data === undefined ? value : `${event.data}\n${value}`;
  }
  heard(event);
};

// Exit statuses of curl, from its manual.
const CURL_ENDS = { 0: 'clean', 7: 'down', 18: 'broken', 22: 'status', 52: 'broken', 56: 'broken' };

const curl = () => {
  const one = new Subscriber('curl -N', {
    ends: { drain: 'clean', kill: 'broken', life: 'clean' },
    parse: curlOutput,
    command: ({ url, token, cursor }) => ['curl', '-sSNi', '--fail', url,
      '-H', `Authorization: Bearer ${token}`, ...cursor ? ['-H', `Last-Event-ID: ${cursor}`] : []],
  });
  one.exits = (status) => ({ end: CURL_ENDS[status] ?? `curl exit ${status}`, detail: '' });
  return one;
};

const node = (file, ends) => new Subscriber(file.replace('.mjs', ''), {
  ends,
  command: ({ url, token, cursor }) => [process.execPath, join(HERE, file), url, token, cursor],
});

const python = (interpreter, file) => new Subscriber(`${file.replace('.py', '')} (Python)`, {
  ends: { drain: 'clean', kill: 'broken', life: 'clean' },
  command: ({ url, token, cursor }) => [interpreter, join(HERE, file), url, token, cursor],
});

/** An EventSource in a page of the hub's own origin. */
export class BrowserSubscriber extends Subscriber {
  constructor(browser, admin) {
    super('Chromium EventSource', { });
    Object.assign(this, { browser, admin });
  }

  async run(url, token) {
    const page = await this.browser.newPage();
    await page.exposeFunction('heard', (what) => this.heard(what));
    await page.goto(`${this.admin}/healthz`);
    const address = `${PATH}${new URL(url).search}&authorization=${token}`;
    await page.evaluate((from) => {
      const { heard } = window;
      const source = new EventSource(from);
      const event = ({ lastEventId, type, data }) => heard({ id: lastEventId, type, data });
      source.onopen = () => heard({ open: true });
      source.onmessage = event;
      source.addEventListener('tick', event);
      source.onerror = () => heard(source.readyState === EventSource.CLOSED
        ? { end: 'gave up', detail: '' } : { retrying: '' });
    }, address);
  }

  stop() {}
}

/** All of them; `interpreter` is a Python that has requirements.txt. */
export const everySubscriber = (interpreter) => [
  node('eventsource.mjs'),
  node('eventsource-client.mjs'),
  node('event-source-polyfill.mjs'),
  node('fetch-event-source.mjs', { drain: 'clean', kill: '', life: 'clean' }),
  curl(),
  python(interpreter, 'httpx-sse.py'),
  python(interpreter, 'sseclient-py.py'),
];
