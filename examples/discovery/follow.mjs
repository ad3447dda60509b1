// Prints a resource and every later version of it: node follow.mjs RESOURCE_URL
//
// Knows nothing but the resource's address: hub, topic and cursor come from its `Link` headers.
const resource = process.argv[2];
const answer = await fetch(resource);
const links = answer.headers.get('Link') ?? '';
const link = (rel) => links.match(new RegExp(`<([^>]*)>[^,]*rel="${rel}"([^,]*)`));
const [, hub, attributes] = link('mercure') ?? [];
if (!hub) throw new Error(`${resource} names no hub`);
console.log(await answer.text());

const url = new URL(hub);
url.searchParams.set('topic', link('self')?.[1] ?? resource);
const cursor = attributes.match(/last-event-id="([^"]*)"/)?.[1];
if (cursor) url.searchParams.set('lastEventID', cursor);

// In a browser: new EventSource(url). Node 20 has none, so this reads the stream itself.
let text = '';
const decoder = new TextDecoder();
for await (const bytes of (await fetch(url)).body) {
  text += decoder.decode(bytes, { stream: true });
  const events = text.split('\n\n');
  text = events.pop();
  for (const event of events) console.log(event.match(/^data: (.*)$/m)?.[1]);
}
