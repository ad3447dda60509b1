// What every subscriber here tells the driver, as one JSON object per line on stdout:
// {open} {id, type, data} {retrying} {end, detail}.

import { writeSync } from 'node:fs';

const [, , url, token, cursor = ''] = process.argv;

export { url, token, cursor };

export const say = (what) => writeSync(1, `${JSON.stringify(what)}\n`);

export const sayEvent = (event) => say({
  id: event.lastEventId ?? event.id ?? '',
  type: event.type ?? event.event ?? 'message',
  data: event.data,
});

/** The address with the token as a query parameter, for those that cannot send headers. */
export const urlWithToken = () => `${url}&authorization=${encodeURIComponent(token)}`;
