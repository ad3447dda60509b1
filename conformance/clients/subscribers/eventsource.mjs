import { EventSource } from 'eventsource';
import { say, sayEvent, urlWithToken } from './say.mjs';

const source = new EventSource(urlWithToken());
source.onopen = () => say({ open: true });
source.onmessage = sayEvent;
source.addEventListener('tick', sayEvent);
source.onerror = (error) => {
  const detail = `${error.code ?? ''} ${error.message ?? ''}`.trim();
  if (source.readyState === EventSource.CLOSED) say({ end: 'gave up', detail });
  else say({ retrying: detail });
};
