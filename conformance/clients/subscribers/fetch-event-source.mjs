import { createRequire } from 'node:module';
import { cursor, say, sayEvent, token, url } from './say.mjs';

// The library is made for pages: it asks only these two of the browser.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = createRequire(import.meta.url)('@microsoft/fetch-event-source');

const headers = { Authorization: `Bearer ${token}` };
if (cursor) headers['last-event-id'] = cursor;
await fetchEventSource(url, {
  headers,
  async onopen(answer) {
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    say({ open: true });
  },
  onmessage: (event) => sayEvent({ ...event, type: event.event || 'message' }),
  onerror: (error) => say({ retrying: String(error) }), // undefined: again after `retry`
});
say({ end: 'clean' });
