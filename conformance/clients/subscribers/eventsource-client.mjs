import { createEventSource } from 'eventsource-client';
import { say, sayEvent, token, url } from './say.mjs';

createEventSource({
  url,
  headers: { Authorization: `Bearer ${token}` },
  onConnect: () => say({ open: true }),
  onDisconnect: () => say({ retrying: 'disconnected' }),
  onMessage: sayEvent,
});
