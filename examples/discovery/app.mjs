// An application whose resource names its hub: node app.mjs HUB_URL TOKEN [PORT]
//
// GET /books/1 answers with the book and, in `Link` headers, where its updates are pushed (the
// hub), under which topic (self), and after which event the answer is up to date (last-event-id).
// PUT /books/1 changes the book and publishes it.
import { createServer } from 'node:http';

const [hub, token, port = '0'] = process.argv.slice(2);
let book = { title: 'Dune', stock: 1 };
// Until the first publish there is no event the answer could be behind.
let lastEventId = 'earliest';

const publish = async (topic) => {
  const body = new URLSearchParams({ topic, data: JSON.stringify(book) });
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(hub, { method: 'POST', headers, body });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.text();
};

createServer(async (request, response) => {
  const topic = `http://${request.headers.host}/books/1`;
  if (request.method === 'PUT') {
    const parts = [];
    for await (const part of request) parts.push(part);
    book = JSON.parse(Buffer.concat(parts).toString());
    lastEventId = await publish(topic);
  }
  response.setHeader('Content-Type', 'application/json');
  response.setHeader('Link', [
    `<${hub}>; rel="mercure"; last-event-id="${lastEventId}"`,
    `<${topic}>; rel="self"`,
  ]);
  response.end(JSON.stringify(book));
}).listen(Number(port), '127.0.0.1', function listening() {
  console.log(`http://127.0.0.1:${this.address().port}/books/1`);
});
