import polyfill from 'event-source-polyfill';
import { say, sayEvent, token, url } from './say.mjs';

// The cursor goes as its own default query parameter, `lastEventId`, which is not Mercure's name.
const source = new polyfill.EventSourcePolyfill(url, {
  headers: { Authorization: `Bearer ${token}` },
});
source.onopen = () => say({ open: true });
source.onmessage = sayEvent;
source.addEventListener('tick', sayEvent);
source.onerror = (error) => {
  const detail = String(error.status ?? error.error ?? '');
  if (source.readyState === 2) say({ end: 'gave up', detail });
  else say({ retrying: detail });
};
