// The backend that Pushpin asks what to do with each subscribe: hold the response as a stream of
// the topic. It is asked once per stream and takes no part in the fan-out.
import { createServer } from 'node:http';

const server = createServer((request, response) => {
  const topic = new URL(request.url, 'http://127.0.0.1').searchParams.get('topic') ?? '';
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-cache',
    'grip-hold': 'stream',
    // As it is: the topics of `gush bench` have nothing in them that a header's value may not have.
    'grip-channel': topic,
  });
  response.end(':\n\n');
});

server.keepAliveTimeout = 3_600_000;
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 65535 });
