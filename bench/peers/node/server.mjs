// An SSE server as it is usually written on Node: a set of responses per topic, a write to each.
// The frame is built once per event, not once per subscriber.
import { createServer } from 'node:http';

const topics = new Map();
let lastId = 0;

function subscribe(topic, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  response.write(':\n\n');
  const subscribers = topics.get(topic) ?? new Set();
  topics.set(topic, subscribers.add(response));
  response.on('close', () => {
    subscribers.delete(response);
    if (subscribers.size === 0 && topics.get(topic) === subscribers) topics.delete(topic);
  });
}

function publish(topic, data) {
  lastId += 1;
  const lines = data.split('\n').map((line) => `data: ${line}\n`).join('');
  const frame = Buffer.from(`id: ${lastId}\n${lines}\n`);
  for (const response of topics.get(topic) ?? []) response.write(frame);
}

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  const topic = url.searchParams.get('topic');
  if (request.method === 'GET' && url.pathname === '/sub') {
    subscribe(topic, response);
  } else if (request.method === 'POST' && url.pathname === '/pub') {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      publish(topic, Buffer.concat(parts).toString());
      response.end();
    });
  } else {
    response.writeHead(404).end();
  }
});

// Streams are meant to last; the backlog is clamped by the kernel to net.core.somaxconn.
server.requestTimeout = 0;
server.keepAliveTimeout = 3_600_000;
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 65535 });
