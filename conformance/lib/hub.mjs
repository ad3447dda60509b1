// Starts, kills and restarts the real hub for the tests in this folder, and publishes to it.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const PATH = '/.well-known/mercure';
/** Everything awaited must come within this, on a machine that is busy with other tests too. */
export const DEADLINE_MS = 60_000;
export const KEY = 'conformance-key-conformance-key-32b';

const POLL_MS = 20;

/** Waits until `condition` is true; says what was missing when it is not in time. */
export const until = async (what, condition, deadline = DEADLINE_MS) => {
  const end = Date.now() + deadline;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${deadline / 1000} s: ${what}`);
    await new Promise((done) => { setTimeout(done, POLL_MS); });
  }
};

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token (HS256) with these grants, valid for so many seconds; with a subject, if one is given. */
export const mint = (grants, key = KEY, seconds = 3600, sub = undefined) => {
  const claims = { mercure: grants, exp: Math.floor(Date.now() / 1000) + seconds, sub };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
};

/** A hub on a disk log of its own; the ports and the log stay the same over restarts. */
export class Hub {
  #binary;
  #process = null;
  #folder = mkdtempSync(join(tmpdir(), 'gush-conformance-'));
  #ports = { public: 0, admin: 0 };
  stderr = '';
  page = '';
  token = '';

  constructor(binary) {
    this.#binary = binary;
    process.on('exit', () => this.remove());
  }

  get url() { return `http://127.0.0.1:${this.#ports.public}${PATH}`; }

  /** The key a hub with --dev has made. */
  get devKey() { return readFileSync(join(this.#folder, 'log', 'dev.key'), 'utf8').trim(); }

  get admin() { return `http://127.0.0.1:${this.#ports.admin}`; }

  /** Starts the hub and waits for its `ready`. */
  async start(...options) {
    const args = ['serve', '--listen', `127.0.0.1:${this.#ports.public}`,
      '--admin-listen', `127.0.0.1:${this.#ports.admin}`,
      '--log', `disk:${join(this.#folder, 'log')}`, ...options];
    const stdio = ['ignore', 'pipe', 'pipe'];
    const child = spawn(this.#binary, args, { stdio, cwd: this.#folder });
    this.#process = child;
    child.on('error', (error) => { this.stderr += `${error}\n`; });
    let out = '';
    child.stdout.on('data', (bytes) => { out += bytes; });
    child.stderr.on('data', (bytes) => { this.stderr = (this.stderr + bytes).slice(-20_000); });
    await until(`the hub is ready\n${args.join(' ')}`, () => {
      if (child.exitCode !== null || child.pid === undefined) {
        throw new Error(`the hub did not start (${child.exitCode}):\n${this.stderr}`);
      }
      return /^ready$/m.test(out);
    });
    for (const which of ['public', 'admin']) {
      const bound = new RegExp(`^listening on http://[^ ]*:(\\d+) \\(${which}\\)$`, 'm').exec(out);
      if (bound) this.#ports[which] = Number(bound[1]);
    }
    this.page = /\bhttp:\/\/\S+\/#token=\S+/.exec(out)?.[0] ?? '';
    this.token = this.page.split('#token=')[1] ?? mint({ publish: ['*'], subscribe: ['*'] });
  }

  /** Sends the signal and waits for the end; answers with the exit status or the signal's name. */
  async stop(signal) {
    const child = this.#process;
    child.kill(signal);
    await until(`the hub ends after ${signal}`, () => child.exitCode !== null || child.signalCode);
    return child.exitCode ?? child.signalCode;
  }

  /** Kills what is left and removes the log. */
  remove() {
    if (this.#process?.exitCode === null) this.#process.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Asks for an orderly end and does not wait for it. */
  drain() { this.#process.kill('SIGTERM'); }

  /** Has it read its configuration again, and waits until it has. */
  async reload() {
    this.stderr = '';
    this.#process.kill('SIGHUP');
    await until('the configuration is reloaded', () => /configuration (not )?reloaded/.test(this.stderr));
    if (/not reloaded/.test(this.stderr)) throw new Error(this.stderr);
  }

  /** Changes limits while streams go on. */
  async limit(limits) {
    const answer = await fetch(`${this.admin}/limits`, {
      method: 'PATCH',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(limits),
    });
    if (!answer.ok) throw new Error(`limits: ${answer.status} ${await answer.text()}`);
  }

  /** The value of a series of the metrics page, as it is written there; 0 where it is not. */
  async metric(series) {
    const page = await (await fetch(`${this.admin}/metrics`)).text();
    const line = page.split('\n').find((text) => text.startsWith(`${series} `));
    return line ? Number(line.slice(series.length)) : 0;
  }

  /** Publishes form fields; answers with the id, or throws with the status and the hub's reason. */
  async publish(fields, url = this.url) {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { Authorization: `Bearer ${this.token}` },
      body: new URLSearchParams(fields),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`publish: ${answer.status} ${text}`);
    return text;
  }
}

/** Collects `ok`/`not ok` lines; `end` prints the sum and sets the exit status. */
export class Report {
  passed = 0;
  failed = 0;

  ok(name) {
    this.passed += 1;
    console.log(`ok      ${name}`);
  }

  notOk(name, why) {
    this.failed += 1;
    console.log(`not ok  ${name}\n        ${String(why).replaceAll('\n', '\n        ')}`);
  }

  /** One case from a list of complaints: none is a pass. */
  check(name, complaints) {
    if (complaints.length === 0) this.ok(name);
    else this.notOk(name, complaints.join('\n'));
  }

  /** Runs a case and tells whether it passed; what it throws is the reason of its failure. */
  async run(name, body) {
    try {
      await body();
      this.ok(name);
      return true;
    } catch (error) {
      this.notOk(name, error.message);
      return false;
    }
  }

  /** Runs all of `main` within so many minutes, puts the hub away and ends the process. */
  async whole(main, hub, minutes) {
    const watchdog = setTimeout(() => {
      this.notOk('the whole run', `over ${minutes} minutes`);
      this.end();
      process.exit();
    }, minutes * 60_000);
    try {
      await main();
    } catch (error) {
      this.notOk('the run', `${error.message}\n${hub.stderr}`);
    }
    clearTimeout(watchdog);
    hub.remove();
    this.end();
    process.exit();
  }

  end() {
    console.log(`${this.passed} passed, ${this.failed} failed`);
    process.exitCode = this.failed === 0 ? 0 : 1;
  }
}

/** `--name value` from the command line. */
export const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at > 0 ? process.argv[at + 1] : fallback;
};
