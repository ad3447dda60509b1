// A cable between a tab and the hub that can be pulled (bytes stop, and nobody is told), or end at
// a proxy that has no hub.

import net from 'node:net';

export class Cable {
  #server;
  #sockets = new Set();
  #pulled = false;
  #answer = '';

  /** Listens on a free port and forwards to `port`. */
  async lay(port) {
    this.#server = net.createServer((near) => this.#join(near, port));
    await new Promise((done) => { this.#server.listen(0, '127.0.0.1', done); });
    return this.#server.address().port;
  }

  #join(near, port) {
    if (this.#pulled) { this.#hold(near); return; }
    if (this.#answer) {
      this.#hold(near);
      near.once('data', () => near.end(this.#answer));
      return;
    }
    const far = net.connect(port, '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#hold(from);
      from.on('close', () => to.destroy());
      from.pipe(to);
    }
  }

  #hold(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }

  /** From now on nothing passes. What was connected stays so, and never carries a byte again. */
  pull() {
    this.#pulled = true;
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.removeAllListeners('close');
      socket.on('close', () => this.#sockets.delete(socket));
      socket.resume(); // the bytes are lost on the way
    }
  }

  /** Cuts what is connected; new connections pass. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Cuts what is connected; from now on each request is answered with 503 and this text. */
  refuse(text) {
    this.#answer = `HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n`
      + `Content-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
    this.cut();
  }

  /** New connections pass again. */
  plug() {
    this.#pulled = false;
    this.#answer = '';
  }

  remove() {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
