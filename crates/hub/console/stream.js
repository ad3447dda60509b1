// The connection to the hub: the browser's own EventSource, and what it does not do by itself.
//
// EventSource reconnects after a cut and sends the last event id. It gives up for ever on an error
// status (and in Firefox on a refused connection), cannot say why, and has no cursor before the
// first event. This class fills those three holes and reports each step; it draws nothing.

const HUB = '.well-known/mercure';
// An id no hub gives out: asked for it, the hub names the last one it has in `Last-Event-ID`.
const NOBODYS_ID = 'urn:gush:console:where-is-the-end';
const BACKOFF_FIRST_MS = 1000;
const BACKOFF_MAX_MS = 30000;
const PROBE_TIMEOUT_MS = 10000;
// A stream that ends sooner than this was a soft refusal (200, `retry:`, close), not a resume.
const SETTLED_MS = 500;
// Replayed events come in one burst after the opening. A pause this long ends the burst; the first
// of them may take longer.
const BURST_FIRST_MS = 1500;
const BURST_PAUSE_MS = 250;
const BURST_MAX_MS = 10000;

/** Statuses that another try cannot change: bad request, token, path or method. */
const isFinal = (status) => status === 204 || (status >= 400 && status < 500
  && status !== 408 && status !== 425 && status !== 429);

/** What an answer says for people: a refusal is a problem document, all else is text. */
export const reason = async (answer) => {
  const text = (await answer.text()).trim();
  if (!answer.headers.get('Content-Type')?.startsWith('application/problem+json')) return text;
  try {
    return JSON.parse(text).detail ?? text;
  } catch {
    return text;
  }
};

const fullJitter = (attempt) => {
  const most = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
  return most / 4 + Math.random() * most * 0.75;
};

const RETRY_DEFAULT_MS = 3000;
const RETRY_MAX_MS = 60_000;
// A line ends with LF, CR LF or CR. A CR at the very end may be the first half of CR LF: it waits.
const LINE_END = /\r\n|\n|\r(?=[^])/;

/**
 * As much of EventSource as the page needs, over fetch, with two differences: `onevent` gets events
 * of every type, and `until` says when the next try is.
 */
class FetchSource {
  #url;
  #abort = new AbortController();
  #retry = RETRY_DEFAULT_MS;
  #lastId = '';
  readyState = EventSource.CONNECTING;
  until = 0;
  onopen = null;
  onerror = null;
  onevent = null;

  constructor(url) {
    this.#url = url;
    this.#run();
  }

  addEventListener() { /* onevent has them all */ }

  close() {
    this.readyState = EventSource.CLOSED;
    this.#abort.abort();
  }

  async #run() {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        await this.#read(signal);
      } catch { /* cut: tried again below, as EventSource does */ }
      if (signal.aborted) return;
      if (this.readyState === EventSource.CLOSED) { this.onerror?.(); return; }
      this.readyState = EventSource.CONNECTING;
      this.until = Date.now() + this.#retry;
      this.onerror?.();
      await new Promise((done) => { setTimeout(done, this.#retry); });
    }
  }

  async #read(signal) {
    const headers = { Accept: 'text/event-stream' };
    if (this.#lastId) headers['Last-Event-ID'] = this.#lastId;
    const answer = await fetch(this.#url, { headers, signal, cache: 'no-store' });
    const streams = answer.headers.get('Content-Type')?.startsWith('text/event-stream');
    if (answer.status !== 200 || !streams) {
      this.readyState = EventSource.CLOSED;
      return;
    }
    this.readyState = EventSource.OPEN;
    this.onopen?.();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let block = {};
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      const lines = (rest + value).split(LINE_END);
      rest = lines.pop();
      for (const line of lines) block = this.#line(line, block);
    }
  }

  /** Takes one line into the event being built; answers with that, or with a new one. */
  #line(line, block) {
    if (line === '') {
      if (block.id !== undefined) this.#lastId = block.id;
      if (block.data === undefined) return {};
      const { type = 'message', data } = block;
      this.onevent?.({ type: type || 'message', data, lastEventId: this.#lastId });
      return {};
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?([^]*))?$/.exec(line);
    if (field === 'data') block.data = block.data === undefined ? value : `${block.data}\n${value}`;
    if (field === 'event') block.type = value;
    if (field === 'id' && !value.includes('\0')) block.id = value;
    if (field === 'retry' && /^\d+$/.test(value)) {
      this.#retry = Math.min(Number(value), RETRY_MAX_MS);
    }
    return block;
  }
}

/**
 * One subscription that comes back. Events of this EventTarget, all CustomEvents:
 * `state` {name, detail, until}, `event` {id, type, data, caughtUp}, `lost` {at, after},
 * `resumed` {lost, at, after, caughtUp}, `caughtup` {count}, `gap` {requested, reason}.
 *
 * State names: closed, connecting, open, cut (the browser reconnects), waiting (we do, at `until`),
 * refused (needs another token, topic or address).
 */
export class Stream extends EventTarget {
  #source = null;
  #options = { topics: ['*'], token: '', types: new Set(), everyType: false };
  #run = 0; // rises with each start and stop; late answers of an older run are dropped
  #attempt = 0;
  #timer = 0;
  #settle = 0;
  #lost = null;
  #burst = null;
  #tries = []; // when the browser's own tries failed, to guess the next one

  state = { name: 'closed', detail: '', since: Date.now(), until: 0 };
  lastId = '';
  reconnects = 0;

  /**
   * Starts anew: `after` is the cursor, empty for only new events; `everyType` reads with fetch,
   * for EventSource hands over only the types that are listened to.
   */
  start({ topics, token, types, everyType, after }) {
    this.#halt();
    this.#options = { topics, token, types: new Set(types), everyType };
    this.lastId = after;
    this.#lost = null;
    this.#attempt = 0;
    this.#probe(after === '');
  }

  /** Ends the stream; it stays ended until `start` or `retry`. */
  stop() {
    this.#halt();
    this.#to('closed', '');
  }

  /** Tries again at once, from where it was. */
  retry() {
    this.#halt();
    this.#probe(this.lastId === '');
  }

  /** Replaces a stream that has been dead since `at` though nobody was told, as after sleep. */
  renew(at) {
    if (this.state.name === 'closed' || this.state.name === 'refused') return;
    if (this.state.name === 'open' && !this.#lost) {
      this.#lost = { ...this.#loss(), at };
      this.#emit('lost', this.#lost);
    }
    this.retry();
  }

  /** Also hands over events of this type, from the next one on. */
  listenTo(type) {
    if (type === '' || this.#options.types.has(type)) return;
    this.#options.types.add(type);
    this.#source?.addEventListener(type, (event) => this.#received(event));
  }

  #halt() {
    this.#run += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#settle);
    this.#source?.close();
    this.#source = null;
    this.#tries = [];
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #to(name, detail, until = 0) {
    const since = this.state.name === name ? this.state.since : Date.now();
    this.state = { name, detail, since, until };
    this.#emit('state', this.state);
  }

  #url(cursor) {
    const query = new URLSearchParams();
    for (const topic of this.#options.topics) query.append('topic', topic);
    query.append('gush_gap', '1');
    if (this.#options.token) query.append('authorization', this.#options.token);
    if (cursor) query.append('lastEventID', cursor);
    return `${HUB}?${query}`;
  }

  /** Asks the hub without EventSource: is it there, does it let us in, and where is its end? */
  async #probe(wantEnd) {
    const run = this.#run;
    this.#to('connecting', '');
    const abort = new AbortController();
    const timeout = setTimeout(() => abort.abort(), PROBE_TIMEOUT_MS);
    const ask = (method) => fetch(this.#url(wantEnd ? NOBODYS_ID : this.lastId), {
      method, signal: abort.signal, cache: 'no-store', headers: { Accept: 'text/event-stream' },
    });
    try {
      const head = await ask('HEAD');
      if (run !== this.#run) return;
      if (head.ok && head.status !== 204) {
        const end = head.headers.get('Last-Event-ID');
        if (wantEnd && end) this.lastId = end;
        this.#connect();
        return;
      }
      const answer = await ask('GET');
      const streams = answer.headers.get('Content-Type')?.startsWith('text/event-stream');
      const text = streams ? '' : (await reason(answer)).slice(0, 300);
      if (run === this.#run) this.#refused(answer, streams, text);
    } catch {
      if (run !== this.#run) return;
      this.#wait(navigator.onLine ? 'the hub does not answer' : 'this browser is offline');
    } finally {
      clearTimeout(timeout);
      abort.abort();
    }
  }

  #refused(answer, streams, text) {
    if (streams) {
      this.#connect();
    } else if (isFinal(answer.status)) {
      const why = answer.status === 204 ? 'the hub asked not to come back' : text;
      this.#to('refused', `${answer.status}: ${why || answer.statusText}`);
    } else {
      const seconds = Number(answer.headers.get('Retry-After'));
      this.#wait(`${answer.status}: ${text || answer.statusText}`, seconds * 1000);
    }
  }

  #wait(why, least = 0) {
    const delay = Math.max(least || 0, fullJitter(this.#attempt));
    this.#attempt += 1;
    this.#to('waiting', why, Date.now() + delay);
    const run = this.#run;
    this.#timer = setTimeout(() => {
      if (run === this.#run) this.#probe(this.lastId === '');
    }, delay);
  }

  #connect() {
    this.#source?.close();
    const url = this.#url(this.lastId);
    const source = this.#options.everyType ? new FetchSource(url) : new EventSource(url);
    this.#source = source;
    const current = (handler) => (event) => { if (this.#source === source) handler(event); };
    source.onopen = current(() => this.#opened());
    source.onerror = current(() => this.#failed(source));
    const received = current((event) => this.#received(event));
    source.onmessage = received;
    const gap = current((event) => this.#gap(event));
    source.addEventListener('gush-gap', gap);
    source.onevent = (event) => (event.type === 'gush-gap' ? gap(event) : received(event));
    for (const type of this.#options.types) source.addEventListener(type, received);
  }

  #opened() {
    const now = Date.now();
    this.#attempt = 0;
    this.#tries = [];
    this.#burst = { count: 0, until: now + BURST_FIRST_MS, last: now + BURST_MAX_MS };
    this.#to('open', '');
    if (!this.#lost) return;
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#resumed(now), SETTLED_MS);
  }

  /** Told once the stream has lasted or brought an event, whichever is first. */
  #resumed(at) {
    clearTimeout(this.#settle);
    if (!this.#lost) return;
    const lost = this.#lost;
    this.#lost = null;
    this.reconnects += 1;
    this.#emit('resumed', { lost: lost.at, at, after: lost.after });
  }

  #failed(source) {
    clearTimeout(this.#settle);
    const now = Date.now();
    if (!this.#lost && this.state.name === 'open') {
      this.#lost = this.#loss();
      this.#emit('lost', this.#lost);
    }
    if (source.readyState === EventSource.CLOSED) {
      this.#source = null;
      if (this.#attempt > 0) this.#wait('EventSource gave up');
      else { this.#attempt = 1; this.#probe(this.lastId === ''); }
      return;
    }
    this.#tries = [...this.#tries.slice(-1), now];
    // EventSource's delay cannot be read; two failed tries show it.
    const gap = this.#tries.length === 2 ? this.#tries[1] - this.#tries[0] : 0;
    const until = source.until ?? (gap ? now + gap : 0);
    this.#to('cut', navigator.onLine ? '' : 'this browser is offline', until);
  }

  #loss() {
    return { at: Date.now(), after: this.lastId };
  }

  #received(event) {
    this.#resumed(Date.now());
    if (event.lastEventId) this.lastId = event.lastEventId;
    const now = Date.now();
    const burst = this.#burst;
    const caughtUp = burst !== null && this.reconnects > 0 && now < burst.until;
    if (caughtUp) {
      burst.count += 1;
      burst.until = Math.min(burst.last, now + BURST_PAUSE_MS);
    }
    this.#emit('event', {
      id: event.lastEventId, type: event.type, data: event.data, at: now, caughtUp,
    });
    if (caughtUp) this.#emit('caughtup', { count: burst.count });
  }

  #gap(event) {
    this.#resumed(Date.now());
    if (event.lastEventId) this.lastId = event.lastEventId;
    let told = {};
    try { told = JSON.parse(event.data); } catch { /* an older or newer hub: say what we know */ }
    this.#emit('gap', { requested: told.requested ?? '', reason: told.reason ?? 'unknown' });
  }
}
