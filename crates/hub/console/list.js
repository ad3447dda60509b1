// The list of events: newest first, bounded, with pause, clear and filter. Text from events goes
// into the page as text nodes only, never as markup.

/** Rows kept. Older ones leave; the stream itself is not affected. */
export const ROWS_MAX = 500;
// Characters of one event's data that are drawn; the rest stays with the hub.
const DATA_SHOWN = 20000;
// JSON that fits in this many characters stays on one line.
const ONE_LINE = 76;
// Rows are drawn in batches, so that a replay of thousands does not stall the page.
const DRAW_EVERY_MS = 40;

const two = (number) => String(number).padStart(2, '0');

/** `14:02:19`, in the reader's own time zone. */
export const clock = (at) => {
  const date = new Date(at);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
};

/** `8 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`: the two largest units that matter. */
export const span = (ms) => {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
};

/** The end of an id, where generated ones differ. */
export const shortId = (id) => (id.length > 18 ? `…${id.slice(-12)}` : id);

/** An element with a class, and children given as text or nodes. */
export const el = (tag, className, ...children) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
};

/** Copies text, also where the clipboard API is missing (plain http on another machine). */
export const copy = async (text, button) => {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  if (button.dataset.told) return;
  button.dataset.told = 'yes';
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = label; delete button.dataset.told; }, 1200);
};

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null)/g;

/** JSON text as nodes with a class per kind of token. */
const coloured = (text) => {
  const out = document.createDocumentFragment();
  let end = 0;
  for (const found of text.matchAll(TOKENS)) {
    out.append(text.slice(end, found.index));
    const [whole, string, colon, number] = found;
    const kind = string ? (colon ? 'k' : 's') : (number ? 'n' : 'w');
    out.append(el('span', kind, string ?? whole), colon ?? '');
    end = found.index + whole.length;
  }
  out.append(text.slice(end));
  return out;
};

/** JSON with what fits on a line kept on it, and the rest broken and indented. */
const pretty = (value, indent = '') => {
  const line = JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ');
  const whole = typeof value !== 'object' || value === null || Object.keys(value).length === 0;
  if (whole || indent.length + line.length <= ONE_LINE) return line;
  const inner = `${indent}  `;
  const list = Array.isArray(value);
  const parts = list ? value.map((item) => inner + pretty(item, inner))
    : Object.entries(value)
      .map(([key, item]) => `${inner}${JSON.stringify(key)}: ${pretty(item, inner)}`);
  return `${list ? '[' : '{'}\n${parts.join(',\n')}\n${indent}${list ? ']' : '}'}`;
};

/** Whether making the text pretty would keep every number as it was sent. */
const keepsNumbers = (text) => !/\d{16}|\d[eE]/.test(text);

/** A subscription event of the hub as one line, or null when the data is anything else. */
const drawPresence = (data) => {
  if (!data.includes('https://mercure.rocks/')) return null;
  let told;
  try { told = JSON.parse(data); } catch { return null; }
  if (told?.['@context'] !== 'https://mercure.rocks/' || told.type !== 'Subscription') return null;
  const line = el('span', 'presence', told.active ? 'Subscribed ' : 'Unsubscribed ',
    el('code', '', String(told.topic)), ' by ', el('code', '', shortId(String(told.subscriber))));
  if (told.payload !== undefined) line.append(' ', el('code', '', JSON.stringify(told.payload)));
  line.title = data;
  return line;
};

const drawData = (data) => {
  const pre = el('pre', 'data');
  if (data.length > DATA_SHOWN) {
    const rest = (data.length - DATA_SHOWN).toLocaleString('en');
    pre.append(data.slice(0, DATA_SHOWN), el('span', 'cut', ` … ${rest} more characters`));
    return pre;
  }
  try {
    const value = JSON.parse(data);
    if (typeof value === 'object' && value !== null && keepsNumbers(data)) {
      pre.append(coloured(pretty(value)));
      return pre;
    }
  } catch { /* not JSON: shown as it is */ }
  pre.append(data === '' ? el('span', 'cut', '(empty)') : data);
  return pre;
};

/** The list in `root`; `onHeld(count)` hears how many rows wait while paused. */
export class EventList {
  #root;
  #items = []; // drawn, newest first
  #waiting = []; // not drawn yet, oldest first
  #timer = 0;
  #filter = '';
  #onChange;
  paused = false;

  constructor(root, onChange) {
    this.#root = root;
    this.#onChange = onChange;
  }

  /** Whether nobody has published yet: the hub's own events and lines do not count. */
  get quiet() { return !this.#items.some((item) => item.event && !item.presence); }

  get held() { return this.paused ? this.#waiting.length : 0; }

  /** Adds an event {id, type, data, at, caughtUp, topic, private}. */
  add(event) {
    const item = { event, text: this.#searchText(event) };
    item.draw = () => this.#drawEvent(item);
    this.#push(item);
  }

  /** Adds what is known of an event that may be in the list already. */
  label(id, { topic, private: isPrivate }) {
    const item = [...this.#waiting, ...this.#items].find((one) => one.event?.id === id);
    if (!item || item.event.topic) return;
    Object.assign(item.event, { topic, private: isPrivate });
    item.text = this.#searchText(item.event);
    this.#redraw(item);
  }

  /** Adds a line about the connection; the returned function replaces its kind and text. */
  notice(kind, ...text) {
    const item = { kind, parts: text, text: '' };
    item.draw = () => {
      const row = el('li', `notice ${item.kind}`, ...item.parts);
      row.dataset.kind = item.kind;
      return row;
    };
    this.#push(item);
    return (newKind, ...newText) => {
      item.kind = newKind;
      item.parts = newText;
      this.#redraw(item);
    };
  }

  /** While paused new rows wait, the last ROWS_MAX of them. */
  pause(paused) {
    this.paused = paused;
    this.#plan();
    this.#onChange();
  }

  clear() {
    this.#items = [];
    this.#waiting = [];
    this.#root.replaceChildren();
    this.#onChange();
  }

  /** Shows only events whose id, type, topic or data contain the text. */
  filter(text) {
    this.#filter = text.trim().toLowerCase();
    for (const item of this.#items) item.node.hidden = !this.#shows(item);
  }

  #shows(item) {
    return this.#filter === '' || item.text === '' || item.text.includes(this.#filter);
  }

  #searchText(event) {
    const text = `${event.type}\n${event.id}\n${event.topic}\n${event.data}`;
    return text.slice(0, DATA_SHOWN).toLowerCase();
  }

  #redraw(item) {
    if (!item.node) return;
    const node = item.draw();
    node.hidden = !this.#shows(item);
    item.node.replaceWith(node);
    item.node = node;
  }

  #push(item) {
    this.#waiting.push(item);
    if (this.#waiting.length > ROWS_MAX) this.#waiting.shift();
    this.#plan();
    if (this.paused) this.#onChange();
  }

  #plan() {
    if (this.paused || this.#timer || this.#waiting.length === 0) return;
    // Not requestAnimationFrame: it stands still in a tab that is not in view.
    this.#timer = setTimeout(() => { this.#timer = 0; this.#draw(); }, DRAW_EVERY_MS);
  }

  #draw() {
    if (this.paused) return;
    const fragment = document.createDocumentFragment();
    const fresh = this.#waiting.splice(0).reverse();
    for (const item of fresh) {
      item.node = item.draw();
      item.node.hidden = !this.#shows(item);
      fragment.append(item.node);
    }
    // A reader who has scrolled down keeps the place.
    const below = this.#root.scrollTop > 8 ? this.#root.scrollHeight : 0;
    this.#root.prepend(fragment);
    this.#items.unshift(...fresh);
    for (const old of this.#items.splice(ROWS_MAX)) old.node.remove();
    if (below) this.#root.scrollTop += this.#root.scrollHeight - below;
    this.#onChange();
  }

  #drawEvent(item) {
    const { event } = item;
    const row = el('li', `event fresh${event.caughtUp ? ' caught' : ''}`);
    const date = new Date(event.at);
    const ms = String(date.getMilliseconds()).padStart(3, '0');
    const time = el('time', '', `${clock(event.at)}.${ms}`);
    time.dateTime = date.toISOString();
    const body = el('div', 'body');
    const presence = drawPresence(event.data);
    item.presence = presence !== null;
    if (event.topic) body.append(el('span', 'topic', event.topic));
    if (event.private) body.append(el('span', 'mark', 'private'));
    if (event.caughtUp) body.append(el('span', 'unseen', 'caught up after a reconnect'));
    if (event.type !== 'message') body.append(el('span', 'type', event.type));
    body.append(presence ?? drawData(event.data));
    const id = el('button', 'id', shortId(event.id));
    id.type = 'button';
    id.title = `Copy ${event.id}`;
    id.setAttribute('aria-label', `Copy the id ${event.id}`);
    id.addEventListener('click', () => copy(event.id, id));
    row.dataset.id = event.id;
    row.append(time, body, id);
    return row;
  }
}
