// Joins the page: forms and token on one side, the stream and its list on the other.

import { Stream, reason } from './stream.js';
import { EventList, clock, copy, el, shortId, span } from './list.js';

const $ = (id) => document.getElementById(id);
const HUB = new URL('.well-known/mercure', location.href).href;
// A browser opens at most six HTTP/1.1 connections to a host, and each tab's stream takes one.
const SLOW_OPEN_MS = 5000;
// A clock that stood still for longer was asleep; browsers slow a hidden tab's down to a minute.
const SLEPT_MS = 90_000;
// Topics of events published here, to label them when they come back. Events carry no topic.
const PUBLISHED_MAX = 500;
const published = new Map();

const stream = new Stream();
const list = new EventList($('events'), () => showList());
const tabs = 'BroadcastChannel' in window ? new BroadcastChannel('gush-console') : null;
let events = 0;
let lossLine = null;

// ── What is kept, and where ─────────────────────────────────────────────────────────────────────
// In this tab only, gone when it closes: a token on disk would outlive its use.

const kept = {
  get: (key) => { try { return sessionStorage.getItem(key) ?? ''; } catch { return ''; } },
  set: (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* not kept */ } },
};

const restore = () => {
  const hash = new URLSearchParams(location.hash.slice(1));
  const token = hash.get('token');
  if (token) {
    kept.set('token', token);
    // Out of the address bar, so that a copied address or a screenshot does not hold it.
    history.replaceState(null, '', location.pathname + location.search);
  }
  $('token').value = kept.get('token');
  $('sub-topics').value = hash.getAll('topic').join('\n') || kept.get('topics') || '*';
  $('sub-types').value = kept.get('types');
  $('sub-every').checked = kept.get('every-type') === 'on';
  showTypes();
};

const lines = (text) => text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
const topics = () => lines($('sub-topics').value);
const types = () => $('sub-types').value.split(/[\s,]+/).filter(Boolean);
const token = () => $('token').value.replace(/\s+/g, '');

/** The types matter only where EventSource reads the stream. */
const showTypes = () => {
  $('sub-types').disabled = $('sub-every').checked;
  $('empty-types').hidden = $('sub-every').checked;
};

const addType = (type) => {
  if (type === '' || type === 'message' || types().includes(type)) return;
  $('sub-types').value = [...types(), type].join(', ');
  kept.set('types', $('sub-types').value);
  stream.listenTo(type);
};

// ── Token ───────────────────────────────────────────────────────────────────────────────────────

const decode = (text) => {
  const part = text.split('.')[1] ?? '';
  const bytes = atob(part.replace(/-/g, '+').replace(/_/g, '/'));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0))));
};

const selectors = (value) => {
  if (!Array.isArray(value) || value.length === 0) return 'nothing';
  return value.map((item) => (item === '*' ? 'everything (*)' : String(item))).join(', ');
};

const expiry = (exp) => {
  const left = exp * 1000 - Date.now();
  if (left <= 0) return { text: `expired ${span(-left)} ago`, bad: true };
  return { text: `in ${span(left)}`, bad: false };
};

const showClaims = () => {
  const box = $('claims');
  const text = token();
  if (text === '') {
    box.replaceChildren(el('p', '', 'No token: public events only, and no publishing. '
      + 'gush serve --dev prints an address with one; gush token makes one.'));
    return;
  }
  let claims;
  try {
    claims = decode(text);
  } catch {
    box.replaceChildren(el('p', 'bad', 'This is not a JSON Web Token.'));
    return;
  }
  const grants = claims['https://mercure.rocks/'] ?? claims.mercure ?? {};
  const rows = [['May publish', selectors(grants.publish)], ['May read private',
    selectors(grants.subscribe)]];
  if (grants.payload !== undefined) rows.push(['Payload', JSON.stringify(grants.payload)]);
  const table = el('dl', 'claims');
  for (const [name, value] of rows) table.append(el('dt', '', name), el('dd', '', value));
  const expires = el('dd', '');
  expires.id = 'expires';
  table.append(el('dt', '', 'Expires'), expires);
  box.replaceChildren(table);
  showExpiry();
};

const showExpiry = () => {
  const node = $('expires');
  if (!node) return;
  let exp;
  try { ({ exp } = decode(token())); } catch { return; }
  const { text, bad } = typeof exp === 'number' ? expiry(exp) : { text: 'never', bad: false };
  node.textContent = text;
  node.className = bad ? 'bad' : '';
};

// ── Connection ──────────────────────────────────────────────────────────────────────────────────

const NAMES = {
  closed: 'Not connected',
  connecting: 'Connecting',
  open: 'Open',
  cut: 'Cut, reconnecting',
  waiting: 'Waiting to retry',
  refused: 'Refused',
};
const BUTTONS = {
  closed: 'Connect', connecting: 'Stop', open: 'Disconnect', cut: 'Retry now',
  waiting: 'Retry now', refused: 'Try again',
};

const detail = ({ name, detail: why, since, until }) => {
  const now = Date.now();
  const left = Math.max(0, Math.ceil((until - now) / 1000));
  switch (name) {
    case 'open': return `for ${span(now - since)}`
      + `${navigator.onLine ? '' : ', but this browser is offline'}`;
    case 'connecting': return now - since < SLOW_OPEN_MS ? ''
      : 'takes long; over HTTP/1.1 a browser holds six streams to one host, in all tabs together';
    case 'cut': return `for ${span(now - since)}${why ? `: ${why}` : ''}`
      + `${until > now ? `, next try in ${left} s` : ''}`;
    case 'waiting': return `in ${left} s: ${why}`;
    default: return why;
  }
};

const showState = () => {
  const { state } = stream;
  $('state').dataset.state = state.name;
  // Only a change is written: the region is read out whenever it is.
  if ($('state-name').textContent !== NAMES[state.name]) {
    $('state-name').textContent = NAMES[state.name];
  }
  $('state-detail').textContent = detail(state);
  $('toggle').textContent = BUTTONS[state.name];
  document.title = state.name === 'open' ? 'gush console' : `${NAMES[state.name]} · gush console`;
};

const showCounters = () => {
  $('count-events').textContent = events.toLocaleString('en');
  $('count-reconnects').textContent = String(stream.reconnects);
  const id = stream.lastId;
  const button = $('last-id');
  if (!button.dataset.told) button.textContent = id ? shortId(id) : 'none yet';
  button.disabled = !id;
  button.title = id ? `Copy ${id}` : '';
};

const showMatchers = () => {
  $('matchers').replaceChildren(...topics().map((topic) => {
    const chip = el('span', 'chip', topic);
    chip.title = topic;
    return chip;
  }));
};

const connect = (after) => {
  kept.set('token', token());
  kept.set('topics', $('sub-topics').value);
  kept.set('types', $('sub-types').value);
  kept.set('every-type', $('sub-every').checked ? 'on' : '');
  showMatchers();
  showLines();
  lossLine = null;
  const everyType = $('sub-every').checked;
  stream.start({ topics: topics(), token: token(), types: types(), everyType, after });
};

const counted = (count) => `${count.toLocaleString('en')} event${count === 1 ? '' : 's'}`;

const showLoss = (lost, resumed, count) => {
  const from = lost.after ? ` after ${shortId(lost.after)}` : '';
  if (!resumed) {
    lossLine = list.notice('lost', el('b', '', 'Connection lost'), ` ${clock(lost.at)}${from}`);
    return;
  }
  const text = ` ${clock(resumed.lost)} … resumed ${clock(resumed.at)}${from}`
    + ` (${span(resumed.at - resumed.lost)}), ${counted(count)} caught up`;
  lossLine?.('resumed', el('b', '', 'Connection lost'), text);
};

const WHY_GAP = {
  unknown: 'the hub does not know that id',
  trimmed: 'the hub no longer keeps what came after it',
  damaged: 'a part of the log could not be read',
};

const watchStream = () => {
  let resumed = null;
  stream.addEventListener('state', () => {
    if (stream.state.name === 'refused') {
      list.notice('refused', el('b', '', 'Refused'),
        ` ${clock(Date.now())} ${stream.state.detail}`);
    }
    showState();
    showCounters();
  });
  stream.addEventListener('event', ({ detail: event }) => {
    events += 1;
    const sent = published.get(event.id);
    list.add({ ...event, topic: sent?.topic ?? '', private: sent?.private ?? false });
    showCounters();
  });
  stream.addEventListener('lost', ({ detail: lost }) => showLoss(lost));
  stream.addEventListener('resumed', ({ detail: back }) => {
    resumed = back;
    showLoss({ at: back.lost, after: back.after }, back, 0);
    showCounters();
  });
  stream.addEventListener('caughtup', ({ detail: { count } }) => {
    if (resumed) showLoss({ at: resumed.lost, after: resumed.after }, resumed, count);
  });
  stream.addEventListener('gap', ({ detail: { requested, reason } }) => {
    list.notice('gap', el('b', '', 'Gap'), ` ${clock(Date.now())} events after `
      + `${shortId(requested) || 'the last one'} may be missing: ${WHY_GAP[reason] ?? reason}`);
  });
};

// ── Publish ─────────────────────────────────────────────────────────────────────────────────────

const answer = (good, ...content) => {
  const box = $('pub-answer');
  box.hidden = false;
  box.className = `answer ${good ? 'good' : 'bad'}`;
  box.replaceChildren(...content);
};

const remember = (id, sent) => {
  published.set(id, sent);
  list.label(id, sent); // the event may be here before the answer to its publish
  if (published.size > PUBLISHED_MAX) published.delete(published.keys().next().value);
};

const publishForm = () => {
  const form = new URLSearchParams();
  form.append('topic', $('pub-topic').value);
  form.append('data', $('pub-data').value);
  if ($('pub-private').checked) form.append('private', 'on');
  for (const name of ['id', 'type', 'retry']) {
    const value = $(`pub-${name}`).value.trim();
    if (value) form.append(name, value);
  }
  return form;
};

const publish = async () => {
  const form = publishForm();
  const sent = { topic: form.get('topic'), private: form.has('private') };
  const type = form.get('type') ?? '';
  addType(type);
  tabs?.postMessage({ type });
  if (form.has('id')) remember(form.get('id'), sent);
  $('pub-send').disabled = true;
  try {
    const reply = await fetch(HUB, {
      method: 'POST',
      body: form,
      headers: token() ? { Authorization: `Bearer ${token()}` } : {},
    });
    const text = await reason(reply);
    if (reply.ok) {
      remember(text, sent);
      tabs?.postMessage({ id: text, sent });
      answer(true, `Stored ${clock(Date.now())} as `, el('code', 'id', shortId(text)));
    } else {
      answer(false, `${reply.status}: ${text || reply.statusText}`);
    }
  } catch {
    answer(false, 'Not sent: the hub does not answer.');
  } finally {
    $('pub-send').disabled = false;
  }
};

// ── Ready-made lines ────────────────────────────────────────────────────────────────────────────

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const shortToken = (text) => (text.length > 24 ? `${text.slice(0, 8)}…${text.slice(-6)}` : text);
const copies = new Map();

/** Shows a line with the token shortened; the copy button gives the whole one. */
const setLine = (id, build) => {
  $(id).textContent = build(shortToken(token()));
  copies.set(id, build(token()));
};

const showLines = () => {
  const data = (name, value) => `--data-urlencode ${quoted(`${name}=${value}`)}`;
  const auth = (text) => (text ? ` \\\n  -H ${quoted(`Authorization: Bearer ${text}`)}` : '');
  const fields = [...publishForm()].map(([name, value]) => data(name, value));
  setLine('line-publish', (text) => `curl ${HUB}${auth(text)} \\\n  ${fields.join(' \\\n  ')}`);
  const wanted = topics().map((topic) => data('topic', topic));
  setLine('line-subscribe', (text) => `curl -NG ${HUB}${auth(text)} \\\n  `
    + wanted.join(' \\\n  '));
  setLine('line-browser', (text) => {
    const append = (name, value) => `url.searchParams.append('${name}', ${JSON.stringify(value)});`;
    const set = topics().map((topic) => append('topic', topic));
    if (text) set.push(append('authorization', text));
    return `const url = new URL(${JSON.stringify(HUB)});\n${set.join('\n')}\n`
      + 'new EventSource(url).onmessage = (e) =>\n  console.log(e.lastEventId, e.data);';
  });
};

// ── Events of the page ──────────────────────────────────────────────────────────────────────────

const showList = () => {
  $('empty').hidden = !list.quiet;
  const held = $('held');
  held.hidden = !list.paused;
  held.textContent = list.held === 0 ? 'Paused. The stream goes on, new rows wait.'
    : `Paused. ${list.held.toLocaleString('en')} new, waiting.`;
};

const wireForms = () => {
  $('publish').addEventListener('submit', (event) => { event.preventDefault(); publish(); });
  $('publish').addEventListener('input', showLines);
  $('pub-type').addEventListener('change', () => addType($('pub-type').value.trim()));
  $('pub-data').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('publish').requestSubmit();
  });
  $('subscribe').addEventListener('submit', (event) => {
    event.preventDefault();
    // With the same topics, as after a new token, the stream goes on where it was.
    const same = kept.get('topics') === $('sub-topics').value;
    connect($('sub-after').value.trim() || (same ? stream.lastId : ''));
  });
  $('token').addEventListener('input', () => { showClaims(); showLines(); });
  $('sub-topics').addEventListener('input', showLines);
  $('sub-every').addEventListener('change', showTypes);
};

const wireButtons = () => {
  $('toggle').addEventListener('click', () => {
    const { name } = stream.state;
    if (name === 'waiting' || name === 'refused' || name === 'cut') stream.retry();
    else if (name === 'closed') connect(stream.lastId || $('sub-after').value.trim());
    else stream.stop();
  });
  $('pause').addEventListener('click', () => {
    list.pause(!list.paused);
    $('pause').textContent = list.paused ? 'Continue' : 'Pause';
    $('pause').setAttribute('aria-pressed', String(list.paused));
  });
  $('clear').addEventListener('click', () => list.clear());
  $('filter').addEventListener('input', () => list.filter($('filter').value));
  $('last-id').addEventListener('click', () => copy(stream.lastId, $('last-id')));
  for (const button of document.querySelectorAll('[data-copy]')) {
    button.addEventListener('click', () => copy(copies.get(button.dataset.copy), button));
  }
};

const wireBrowser = () => {
  tabs?.addEventListener('message', ({ data }) => {
    if (data.type) addType(data.type);
    if (data.id) remember(data.id, data.sent);
  });
  // A page that comes back from the back-forward cache finds its stream dead.
  window.addEventListener('pageshow', (event) => { if (event.persisted) stream.retry(); });
  // A network that went away often leaves the stream open and silent. It is replaced when the
  // network is back and not before: a hub on this machine needs none.
  let offline = 0;
  window.addEventListener('offline', () => { offline = Date.now(); showState(); });
  window.addEventListener('online', () => stream.renew(offline || Date.now()));
  window.addEventListener('hashchange', () => { restore(); showClaims(); connect(''); });
  let tick = Date.now();
  setInterval(() => {
    if (Date.now() - tick > SLEPT_MS) stream.renew(tick);
    tick = Date.now();
    showState();
    showExpiry();
  }, 1000);
};

restore();
showClaims();
watchStream();
wireForms();
wireButtons();
wireBrowser();
showState();
showList();
connect('');
